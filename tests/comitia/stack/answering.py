"""A process in place of a service: `python -m tests.comitia.stack.answering NAME` answers on its listen port.

`/readyz` is ready, `/environment` shows its variables, `/die` ends it with status 3. It answers on its health port
too, where it has one. `COMITIA_BROKEN=NAME` makes it end at once.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from integrations.listening import Listen, open_listener


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


def server(port: int, mode: Listen) -> ThreadingHTTPServer:
    made = ThreadingHTTPServer(("127.0.0.1", port), Answers, bind_and_activate=False)
    made.socket.close()
    made.socket = open_listener("127.0.0.1", port, mode)
    made.socket.setblocking(True)  # noqa: FBT003 - positional only
    made.server_activate()
    return made


if __name__ == "__main__":
    if os.environ.get("COMITIA_BROKEN") == sys.argv[1]:
        sys.exit("cannot work")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mode = Listen(os.environ["COMITIA_LISTEN_MODE"])
    if health := os.environ.get("COMITIA_HEALTH_PORT"):
        threading.Thread(target=server(int(health), Listen.ALONE).serve_forever, daemon=True).start()
    server(int(os.environ["COMITIA_LISTEN_PORT"]), mode).serve_forever()
