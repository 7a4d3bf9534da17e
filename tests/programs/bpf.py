"""The smallest object file of BPF that tc takes: made here, since no compiler for it is in a guest."""

from __future__ import annotations

import struct

_RELOCATABLE, _BPF, _CURRENT = 1, 247, 1
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_WRITE, _ALLOC, _EXECUTABLE = 1, 2, 4
_GLOBAL_FUNCTION, _GLOBAL_OBJECT = 0x12, 0x11
_HEADER, _SECTION, _SYMBOL = 64, 64, 24


def classifier() -> bytes:
    """Return an ELF file (elf(5)) with a program ``r0 = 0; exit`` in its section ``classifier``, licence GPL."""
    names = b"\0.strtab\0classifier\0license\0.symtab\0program\0_license\0"

    def name(word: bytes) -> int:
        return names.index(b"\0" + word + b"\0") + 1

    # Two instructions of 8 bytes (Documentation/bpf/standardization/instruction-set.rst): MOV r0 imm, EXIT.
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
    symbols = bytes(_SYMBOL)
    symbols += struct.pack("<IBBHQQ", name(b"program"), _GLOBAL_FUNCTION, 0, 2, 0, len(code))
    symbols += struct.pack("<IBBHQQ", name(b"_license"), _GLOBAL_OBJECT, 0, 3, 0, 4)
    parts = [
        # Name, type, flags, link, info, size of an entry; content.
        (b".strtab", _STRTAB, 0, 0, 0, 0, names),
        (b"classifier", _PROGBITS, _ALLOC | _EXECUTABLE, 0, 0, 0, code),
        (b"license", _PROGBITS, _ALLOC | _WRITE, 0, 0, 0, b"GPL\0"),
        (b".symtab", _SYMTAB, 0, 1, 1, _SYMBOL, symbols),
    ]
    body, table = b"", bytes(_SECTION)
    for word, kind, flags, link, info, entry, content in parts:
        at = _HEADER + len(body)
        table += struct.pack("<IIQQQQIIQQ", name(word), kind, flags, 0, at, len(content), link, info, 8, entry)
        body += content.ljust(-(-len(content) // 8) * 8, b"\0")
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bit, little-endian
    sections = _HEADER + len(body)
    header = struct.pack("<HHIQQQIHHHHHH", _RELOCATABLE, _BPF, _CURRENT, 0, 0, sections, 0, _HEADER, 0, 0, _SECTION,
                         len(parts) + 1, 1)  # fmt: skip
    return identity + header + body + table
