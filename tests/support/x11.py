"""What a window manager does when the cross of a window is pressed; Xvfb has none."""

import ctypes
import ctypes.util


class ClientMessage(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    ]


def press_cross(window: int) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("X11") or "libX11.so.6")
    library.XOpenDisplay.restype = ctypes.c_void_p
    library.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(library.XOpenDisplay(None))
    names = (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
    protocols, delete = (library.XInternAtom(display, name, 0) for name in names)
    event = ClientMessage(type=33, window=window, message_type=protocols, format=32)
    event.data[0] = delete
    library.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(event))
    library.XFlush(display)
    library.XCloseDisplay(display)
