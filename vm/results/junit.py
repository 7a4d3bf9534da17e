"""A run as JUnit's XML, which CI systems read: one suite a kernel, one case a test.

The form is the one that Jenkins and GitLab agree on (``testsuites``, ``testsuite``, ``testcase`` with ``failure``,
``error`` or ``skipped``). A verdict about the kernel is a failure; one that says nothing of it, an error: it was not
built, did not boot, or nobody ran the test. A known issue is skipped, as pytest does it.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vm.results.model import KernelRun, Run, TestResult, Verdict

# What XML 1.0 has no way to write (its production 2, Char).
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(run: Run) -> str:
    """Return ``run`` as XML."""
    root = Element(
        "testsuites", {"name": _xml(run.id), **_numbers(tuple(test for kernel in run.kernels for test in kernel.tests))}
    )
    for kernel in run.kernels:
        root.append(_suite(run, kernel))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _suite(run: Run, kernel: KernelRun) -> Element:
    suite = Element(
        "testsuite", {"name": _xml(kernel.name), "timestamp": _xml(run.started.rstrip("Z")), **_numbers(kernel.tests)}
    )
    properties = SubElement(suite, "properties")
    for name, value in facts(run, kernel).items():
        if value:
            SubElement(properties, "property", {"name": name, "value": _xml(value)})
    suite.extend(_case(test) for test in kernel.tests)
    return suite


def facts(run: Run, kernel: KernelRun) -> dict[str, str]:
    """Return the properties of a kernel's suite, empty ones among them."""
    accelerator = f"{kernel.accelerator} ({kernel.accelerator_reason})" if kernel.accelerator else ""
    return {
        "run": run.id,
        "revision": run.revision,
        "qemu": run.host.qemu,
        "host": run.host.os,
        "spec": kernel.spec,
        "release": kernel.release,
        "version": kernel.version,
        "accelerator": accelerator,
        "boot_seconds": " ".join(map(str, kernel.boot_seconds)),
        "processor": kernel.processor,
        "cmdline": kernel.cmdline,
        "config": kernel.config,
        "proc_crypto": "" if "\n" in kernel.proc_crypto else kernel.proc_crypto,
        "taint": str(kernel.taint),
        "reason": kernel.reason,
    }


def _case(test: TestResult) -> Element:
    path, _, name = test.nodeid.partition("::")
    # A parameter may have colons.
    function, bracket, parameters = name.partition("[")
    *classes, function = function.split("::")
    case = Element("testcase", {"classname": _xml(".".join([path.removesuffix(".py").replace("/", "."), *classes]))})
    case.attrib |= {"name": _xml(function + bracket + parameters), "time": f"{test.seconds:.3f}"}
    if test.properties:
        properties = SubElement(case, "properties")
        for each in test.properties:
            SubElement(properties, "property", {"name": _xml(each.name), "value": _xml(each.value)})
    kind = _kind(test.verdict)
    if kind:
        known = test.verdict is Verdict.KNOWN
        type_ = {"skipped": "pytest.xfail" if known else "pytest.skip"}.get(kind, test.verdict.value)
        said = SubElement(case, kind, {"type": type_, "message": _xml(test.known_issue or test.reason)})
        said.text = "" if kind == "skipped" else _xml(_text(test))
    return case


def _kind(verdict: Verdict) -> str:
    """Return the element that tells a verdict, empty for one that needs none."""
    if verdict.good:
        return "" if verdict is Verdict.PASSED else "skipped"
    return "failure" if verdict.ran else "error"


def _text(test: TestResult) -> str:
    parts = [test.details, test.kernel_log and f"kernel log:\n{test.kernel_log}"]
    parts += [test.rerun and f"run this again:\n{test.rerun}"]
    return "\n\n".join(filter(None, parts))


def _numbers(tests: tuple[TestResult, ...]) -> dict[str, str]:
    kinds = [_kind(test.verdict) for test in tests]
    counts = {"failures": kinds.count("failure"), "errors": kinds.count("error"), "skipped": kinds.count("skipped")}
    seconds = sum(test.seconds for test in tests)
    return {"tests": str(len(tests)), **{name: str(count) for name, count in counts.items()}, "time": f"{seconds:.3f}"}


def _xml(text: str) -> str:
    """Return ``text`` with an escape for each character that XML does not have."""
    return _NO_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
