"""A process in place of a service: `python -m tests.comitia.stack.answering NAME` answers on its listen port.

`/readyz` is ready, `/environment` shows its variables, `/die` ends it with status 3.
`COMITIA_BROKEN=NAME` makes it end at once.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/die":
            os._exit(3)
        own = {name: value for name, value in os.environ.items() if name.startswith("COMITIA_")}
        body = json.dumps(own if self.path == "/environment" else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    if os.environ.get("COMITIA_BROKEN") == sys.argv[1]:
        sys.exit("cannot work")
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["COMITIA_LISTEN_PORT"])), Answers).serve_forever()
