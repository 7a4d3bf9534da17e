"""Records of /dev/kmsg: taken apart, and shown as a console shows them."""

from __future__ import annotations

import re

import pytest

from vm.klog.console import last_test
from vm.klog.printk import Record, parse_record, render
from vm.klog.splats import find_splats
from vm.tests.consoles import captured, summary


# The examples of the kernel document ABI/testing/dev-kmsg.
def test_record_with_keys_and_values() -> None:
    data = (
        b"7,160,424069,-;pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)\n"
        b" SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n"
    )
    assert parse_record(data) == Record(
        facility=0,
        microseconds=424069,
        text="pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)",
    )


def test_record_of_user_space() -> None:
    record = parse_record(b"30,340,5690716,-;udevd[80]: starting version 181\n")
    assert (record.facility, record.text) == (3, "udevd[80]: starting version 181")


def test_record_with_caller_continuation_and_fields_of_the_future() -> None:
    record = parse_record(b"4,18446744073709551615,12,c,caller=T1234,new=x;a fragment; with a semicolon\n")
    assert record.caller == "T1234"
    assert record.text == "a fragment; with a semicolon"


def test_record_unescapes_what_the_kernel_escapes() -> None:
    record = parse_record(rb"6,1,2,-;tab\x09 back\x5cslash line\x0anext \xc3\xa4 \xff".replace(rb"\xff", b"") + b"\n")
    assert record.text == "tab\t back\\slash line\nnext ä "
    assert parse_record(rb"6,1,2,-;\xff" + b"\n").text == "\ufffd"
    assert parse_record(b"6,1,2,-;\n").text == ""


@pytest.mark.parametrize("data", [b"", b"\n", b"6,1,2,-\n", b"6,1;x", b"x,1,2,-;x", b"6,1,-2,-;x", b";;;"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected a record"):
        parse_record(data)


def test_records_are_rendered_as_the_console_shows_them() -> None:
    record = parse_record(rb"4,7,12345678,-,caller=C1;first\x0asecond" + b"\n")
    assert render(record) == "[   12.345678][    C1] first\n[   12.345678][    C1] second"
    assert render(parse_record(b"4,7,999,-;x\n")) == "[    0.000999] x"


def test_splats_in_records_are_those_of_the_console() -> None:
    text = captured("many-kinds")
    records = []
    for line in text.split("\n"):
        if match := re.match(r"\[ *(\d+)\.(\d{6})\]\[ *(\w+)\] (.*)", line):
            seconds, fraction, caller, message = match.groups()
            escaped = message.replace("\\", r"\x5c").replace("\t", r"\x09")
            records.append(f"4,1,{int(seconds + fraction)},-,caller={caller};{escaped}\n".encode())
    rendered = "\n".join(render(parse_record(record)) for record in records)
    assert summary(find_splats(rendered)) == summary(find_splats(text))


def test_a_program_cannot_utter_a_splat_through_kmsg() -> None:
    kernel, program = Record(0, 2, "kernel BUG at a.c:1!"), Record(1, 2, "kernel BUG at a.c:1!")
    assert len(find_splats(render(kernel))) == 1
    assert find_splats(render(program)) == []
    assert last_test(render(Record(1, 2, "vm-test: begin t"))) == "t"
