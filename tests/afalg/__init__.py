"""AF_ALG from Python: the kernel's ABI, typed, with nothing between.

>>> from tests.afalg import Hash
>>> with Hash("sha256") as h:
...     h.digest(b"data")

ctypes and struct are used here and nowhere else. Errors are OSError with the kernel's errno; a call that
is still blocked at its deadline raises DeadlineExpired.
"""

from tests.afalg.abi import authenc_key, cmsg, set_assoclen, set_iv, set_op, sockaddr_alg
from tests.afalg.deadline import DeadlineExpired
from tests.afalg.pipes import Pipe, sendfile, splice, tee, vmsplice
from tests.afalg.sockets import Pointer, Received, Socket
from tests.afalg.types import Aead, Hash, Rng, Skcipher, Transform

__all__ = [
    "Aead",
    "DeadlineExpired",
    "Hash",
    "Pipe",
    "Pointer",
    "Received",
    "Rng",
    "Skcipher",
    "Socket",
    "Transform",
    "authenc_key",
    "cmsg",
    "sendfile",
    "set_assoclen",
    "set_iv",
    "set_op",
    "sockaddr_alg",
    "splice",
    "tee",
    "vmsplice",
]
