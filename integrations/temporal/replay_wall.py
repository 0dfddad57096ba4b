"""Has the kernel refuse a process what leads out of it: sockets of networks, connections of any, other programs.

That holds for whatever runs in the process, also for what tells Python nothing, and cannot be taken back. It is a
filter of system calls (seccomp), which a process may set for itself and whatever it starts: see seccomp(2), and for the
numbers the kernel's tables of system calls. Where there is no such filter, it is left out.
"""

import ctypes
import errno
import platform
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_NO_NEW_PRIVILEGES: Final = 38  # of prctl
_SET_FILTER: Final = (22, 2)
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EACCES
_OTHER_NUMBERS: Final = 0x40000000  # from there on they are of another way to call the same


@dataclass(frozen=True, slots=True)
class _Machine:
    architecture: int
    socket: int
    refused: tuple[int, ...]  # connect, bind, execve, execveat, io_uring_setup


_MACHINES: Final = {
    "x86_64": _Machine(0xC000003E, 41, (42, 49, 59, 322, 425)),
    "aarch64": _Machine(0xC00000B7, 198, (203, 200, 221, 281, 425)),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def stand() -> bool:
    """Set the filter for this thread and every thread and process that it starts; tell whether it is there."""
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return False
    steps = [struct.pack("=HBBI", *step) for step in _steps(machine)]
    program = _Program(len(steps), b"".join(steps))
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(prctl(*_SET_FILTER, ctypes.addressof(program), 0, 0) == 0)


def _steps(machine: _Machine) -> Sequence[tuple[int, int, int, int]]:
    """Return the filter: each step is an operation, how many to skip if so and if not, and a value."""
    calls = [(_JUMP_EQUAL, number) for number in machine.refused]
    refusals = [(_JUMP_FROM, _OTHER_NUMBERS), *calls]
    last = 4 + len(refusals) + 3  # where it is allowed; and behind it, where it is refused
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((operation, last - place, 0, value) for place, (operation, value) in enumerate(refusals, start=4)),
        (_JUMP_EQUAL, 0, 2, machine.socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JUMP_EQUAL, 0, 1, socket.AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
