"""The architectures whose kernels can be tested: one row each, with all that the runner has to know of it.

What is new needs a row, its options in ``kconfigs/NAME.config``, and a reader (vm/kernels/image.py) where the format of
its images has none yet. vm/tests/base/test_arch.py holds that no other module names an architecture.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vm.base.errors import UsageError


@dataclass(frozen=True)
class Profile:
    """One kind of machine: board, processor and how its kernel is loaded.

    Attributes:
        board: QEMU's name of it (``-machine``).
        cpu: processor model and features (``-cpu``).
        features: of any other processor that is asked for, appended to its model.
        unpacked: whether the kernel inside an image is unpacked on the host, where QEMU can enter it. That leaves out
            its own decompressor, which takes longer than its start when emulated, and KASLR.
        kernel_arguments: for the kernel's command line.
    """

    board: str
    cpu: str
    features: str = ""
    unpacked: bool = False
    kernel_arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """What shows that QEMU runs code: a program by which it ends as it does by nothing else.

    Attributes:
        program: bytes of its file.
        arguments: QEMU's besides those of the profile; ``{file}`` stands for the file.
        status: QEMU's exit status when the program ran.
    """

    program: bytes
    arguments: tuple[str, ...]
    status: int


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        name: ``uname -m`` of its kernels, unique; also the fragment of ``kconfigs/`` that all of them have.
        hosts: ``uname -m`` of the machines whose KVM runs it; the first row that has one is that machine's default.
        qemu: QEMU's binary.
        package: the Debian package that has it.
        virtme: virtme-ng's name of it (``--arch``).
        bus: last part of the names of QEMU's virtio devices, and of the kernel's driver: ``pci``, ``ccw``.
        profiles: kinds of machines, by the accelerator whose machines have them: ``kvm`` and ``tcg``.
        proof: shows that an accelerator runs its code; None where none was written: TCG is taken, KVM believed.
        console: name in /dev of the serial console, on which shells run too.
        serial: QEMU's arguments for the console's device; the chardev is ``console``.
        further_serial: QEMU's device of one more serial port than the console's, for kernels without virtio-console;
            empty where the board has no room for any.
        further_console: their names in /dev, in the order of QEMU's arguments.
        console_arguments: have the kernel log there, from its first line.
        kernel_arguments: further ones, for instance about hardware that the guest does not have.
        nmi: QMP command that makes a guest which hangs print where; empty when QEMU has none.
        nmi_arguments: have the kernel panic when it has done so.
        elf: numbers of the machine in ELF files (include/uapi/linux/elf-em.h).
        image: of a built tree, below its top; make's target is its name, and its arch/ directory is in it.
        image_name: what people call such an image, with its article.
        image_format: which reader of vm/kernels/image.py knows it.
        make: value of ``ARCH=`` for the kernel's make.
        crypto: directories of the source with modules of algorithms, besides those of all architectures.
        config: symbol that its .config files set, and no others.
        debian: Debian's name of it.
        flavours: how the ABI names of Debian's general kernels end.
        calls_32_bit: whether its kernels can have 32-bit system calls that tests, which are 64-bit programs, can make.
        pointer: pattern of what precedes the function in the line of a trace that tells where it happened.
        registers: pattern of how the lines of a trace with registers begin.
        wheels: its name in the platform tags of Python's wheels (PEP 600).
        without_wheel: what requirements/guest.txt names and has no wheel for it: the Debian package that has it.
        calls: which column of vm/guest/syscalls.py has its system calls; empty when none has.
        cross: what GNU tools that make programs for it are called on other machines, before their names.
    """

    name: str
    hosts: tuple[str, ...]
    qemu: str
    package: str
    virtme: str
    bus: str
    profiles: Mapping[str, Profile] = field(hash=False)
    proof: Proof | None
    console: str
    serial: tuple[str, ...]
    console_arguments: tuple[str, ...]
    kernel_arguments: tuple[str, ...]
    nmi: str
    nmi_arguments: tuple[str, ...]
    elf: tuple[int, ...]
    image: Path
    image_name: str
    image_format: str
    make: str
    crypto: tuple[str, ...]
    config: str
    debian: str
    flavours: tuple[str, ...]
    calls_32_bit: bool
    pointer: str
    registers: str
    wheels: str
    without_wheel: Mapping[str, str] = field(default_factory=dict, hash=False)
    calls: str = ""
    cross: str = ""
    further_serial: str = ""
    further_console: tuple[str, ...] = ()

    @property
    def directory(self) -> str:
        """Its directory in the kernel's arch/."""
        return self.image.parts[1]

    def find_qemu(self, given: str | None = None) -> str:
        """Return the path of QEMU.

        Args:
            given: name or path of another one than its own.

        Raises:
            UsageError: it is not installed.
        """
        path = shutil.which(given or self.qemu)
        if path is None:
            raise UsageError(
                f"{given or self.qemu} is not installed; install the package {self.package} "
                f"(Debian: apt-get install {self.package})"
            )
        return path


RESUMES = frozenset(("x86_64", "aarch64", "s390x", "ppc64le"))
"""Names of those whose machines were seen to be saved and to go on; i686 did not come up with what it takes."""

_X86_64 = Architecture(
    name="x86_64",
    hosts=("x86_64",),
    qemu="qemu-system-x86_64",
    package="qemu-system-x86",
    virtme="x86_64",
    bus="pci",
    profiles={
        # No PMU: its interrupts are NMIs, and one that nobody expects is a panic here (unknown_nmi_panic).
        "kvm": Profile(board="q35", cpu="host,pmu=off", features="pmu=off"),
        "tcg": Profile(
            board="q35",
            # Seen with QEMU 7.2 of Debian 12, and no report of it found: TCG corrupts the flags on cmpxchg16b, and
            # guests fault at random.
            cpu="max,-cx16",
            features="-cx16",
            unpacked=True,
            kernel_arguments=(
                # An emulated timer is late on a busy host, and check_timer() (arch/x86/kernel/apic/io_apic.c, in all
                # versions) panics: "IO-APIC + timer doesn't work".
                "no_timer_check",
                # 27 s with every algorithm built in; a kernel that shall do them says so (Kernel.own_arguments).
                "cryptomgr.notests",
            ),
        ),
    },
    proof=Proof(
        # A boot sector: mov al, 0x10; out 0xf4, al; hlt. The device turns the byte written into QEMU's exit status
        # (value << 1) | 1.
        program=bytes.fromhex("b010e6f4f4").ljust(510, b"\0") + b"\x55\xaa",
        arguments=(
            # A floppy, because QEMU offers no other disk that a BIOS boots from and that may be read-only.
            *("-drive", "file={file},format=raw,if=floppy,readonly=on", "-boot", "a"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
        ),
        status=(0x10 << 1) | 1,
    ),
    console="ttyS0",
    serial=("-serial", "chardev:console"),
    console_arguments=("console=ttyS0,115200", "earlyprintk=serial,ttyS0,115200"),
    kernel_arguments=("i8042.nopnp", "i8042.noaux"),
    nmi="inject-nmi",
    nmi_arguments=("unknown_nmi_panic=1",),
    elf=(62,),
    image=Path("arch/x86/boot/bzImage"),
    image_name="an x86-64 bzImage",
    image_format="bzimage",
    make="x86",
    crypto=("arch/x86/crypto/",),
    config="X86_64",
    debian="amd64",
    flavours=("amd64",),
    calls_32_bit=True,
    pointer=r"RIP: [0-9a-f]{4}:",
    registers=r"RIP: |R[0-9A-Z]{2}: |Code: |RSP: |FS: |CS: |CR2: |DR\d: |PKRU: ",
    wheels="x86_64",
    calls="first",
    cross="x86_64-linux-gnu-",
    further_serial="isa-serial",
    further_console=("ttyS1", "ttyS2", "ttyS3"),
)

_ARM64 = Architecture(
    name="aarch64",
    hosts=("aarch64",),
    qemu="qemu-system-aarch64",
    package="qemu-system-arm",
    virtme="aarch64",
    bus="pci",
    profiles={
        "kvm": Profile(board="virt,gic-version=host", cpu="host"),
        # The architecture's own algorithm of pointer authentication takes half of the time under emulation.
        "tcg": Profile(
            board="virt",
            cpu="max,pauth-impdef=on",
            features="pauth-impdef=on",
            kernel_arguments=("cryptomgr.notests",),
        ),
    },
    proof=None,
    console="ttyAMA0",
    serial=("-serial", "chardev:console"),
    console_arguments=("console=ttyAMA0", "earlycon=pl011,0x9000000"),
    kernel_arguments=(),
    nmi="",
    nmi_arguments=(),
    elf=(183,),
    image=Path("arch/arm64/boot/Image"),
    image_name="an arm64 Image",
    image_format="flat",
    make="arm64",
    crypto=("arch/arm64/crypto/",),
    config="ARM64",
    debian="arm64",
    flavours=("arm64", "arm64-16k"),
    calls_32_bit=False,
    pointer=r"pc : ",
    registers=r"pc : |lr : |sp : |x\d+ ?: |pstate: |Code: ",
    wheels="aarch64",
    calls="generic",
    cross="aarch64-linux-gnu-",
)

_ARMHF = Architecture(
    name="armv7l",
    hosts=("armv7l",),
    qemu="qemu-system-arm",
    package="qemu-system-arm",
    virtme="arm",
    bus="pci",
    # Beyond 3 GiB nothing of a board with more is reached without LPAE, and the interrupt controller lies there.
    profiles={
        "kvm": Profile(board="virt,highmem=off", cpu="host"),
        "tcg": Profile(board="virt,highmem=off", cpu="max", kernel_arguments=("cryptomgr.notests",)),
    },
    proof=None,
    console="ttyAMA0",
    serial=("-serial", "chardev:console"),
    console_arguments=("console=ttyAMA0", "earlycon=pl011,0x9000000"),
    kernel_arguments=(),
    nmi="",
    nmi_arguments=(),
    elf=(40,),
    image=Path("arch/arm/boot/zImage"),
    image_name="an arm zImage",
    image_format="flat",
    make="arm",
    crypto=("arch/arm/crypto/",),
    config="ARM",
    debian="armhf",
    flavours=("armmp", "armmp-lpae"),
    calls_32_bit=False,
    pointer=r"PC is at ",
    registers=r"PC is at |LR is at |pc : |sp : |r\d+ ?: |Flags: |Control: |Code: ",
    wheels="armv7l",
    without_wheel={"cffi": "python3-cffi-backend"},
    cross="arm-linux-gnueabihf-",
)

_I386 = Architecture(
    name="i686",
    hosts=("i686", "x86_64"),
    qemu="qemu-system-x86_64",
    package="qemu-system-x86",
    virtme="i386",
    bus="pci",
    profiles={
        "kvm": Profile(board="q35", cpu="host,pmu=off,lm=off", features="pmu=off,lm=off"),
        "tcg": Profile(
            board="q35",
            cpu="max,-lm,-cx16",
            features="-lm",
            kernel_arguments=("no_timer_check", "cryptomgr.notests"),
        ),
    },
    proof=_X86_64.proof,
    console="ttyS0",
    serial=("-serial", "chardev:console"),
    console_arguments=_X86_64.console_arguments,
    kernel_arguments=_X86_64.kernel_arguments,
    nmi=_X86_64.nmi,
    nmi_arguments=_X86_64.nmi_arguments,
    elf=(3,),
    image=Path("arch/x86/boot/bzImage"),
    image_name="an i386 bzImage",
    image_format="bzimage",
    make="i386",
    crypto=("arch/x86/crypto/",),
    config="X86_32",
    debian="i386",
    flavours=("686", "686-pae"),
    calls_32_bit=False,
    pointer=r"EIP: ",
    registers=r"EIP: |EAX: |ESI: |DS: |CR0: |DR\d: |EFLAGS: |Code: ",
    wheels="i686",
    without_wheel={"cryptography": "python3-cryptography", "cffi": "python3-cffi-backend"},
    cross="i686-linux-gnu-",
    further_serial=_X86_64.further_serial,
    further_console=_X86_64.further_console,
)

_PPC64EL = Architecture(
    name="ppc64le",
    hosts=("ppc64le",),
    qemu="qemu-system-ppc64",
    package="qemu-system-ppc",
    virtme="ppc64le",
    bus="pci",
    profiles={
        "kvm": Profile(board="pseries", cpu="host"),
        # Without the firmware's start-up code in Forth, which takes longer than the kernel's.
        "tcg": Profile(board="pseries,x-vof=on", cpu="power9", kernel_arguments=("cryptomgr.notests",)),
    },
    proof=None,
    console="hvc0",
    serial=("-serial", "chardev:console"),
    console_arguments=("console=hvc0",),
    kernel_arguments=(),
    nmi="inject-nmi",
    nmi_arguments=(),
    elf=(21,),
    image=Path("arch/powerpc/boot/zImage"),
    image_name="a ppc64el vmlinux",
    image_format="flat",
    make="powerpc",
    crypto=("arch/powerpc/crypto/",),
    config="PPC64",
    debian="ppc64el",
    flavours=("powerpc64le", "powerpc64le-64k"),
    calls_32_bit=False,
    pointer=r"NIP \[[0-9a-f]+\] ",
    registers=r"NIP|REGS: |MSR: |GPR\d\d: |CFAR: |LR |Code: ",
    wheels="ppc64le",
    cross="powerpc64le-linux-gnu-",
)

_RISCV64 = Architecture(
    name="riscv64",
    hosts=("riscv64",),
    qemu="qemu-system-riscv64",
    package="qemu-system-misc",
    virtme="riscv64",
    bus="pci",
    profiles={
        "kvm": Profile(board="virt", cpu="host"),
        "tcg": Profile(board="virt", cpu="rv64", kernel_arguments=("cryptomgr.notests",)),
    },
    proof=None,
    console="ttyS0",
    serial=("-serial", "chardev:console"),
    console_arguments=("console=ttyS0", "earlycon=sbi"),
    kernel_arguments=(),
    nmi="",
    nmi_arguments=(),
    elf=(243,),
    image=Path("arch/riscv/boot/Image"),
    image_name="a RISC-V Image",
    image_format="flat",
    make="riscv",
    crypto=("arch/riscv/crypto/",),
    config="RISCV",
    debian="riscv64",
    flavours=("riscv64",),
    calls_32_bit=False,
    pointer=r"epc : ",
    registers=r"epc : | ra : | gp : | t\d : | s\d : | a\d : |status: |Code: ",
    wheels="riscv64",
    without_wheel={"cryptography": "python3-cryptography", "cffi": "python3-cffi-backend"},
    calls="generic",
    cross="riscv64-linux-gnu-",
)

_S390X = Architecture(
    name="s390x",
    hosts=("s390x",),
    qemu="qemu-system-s390x",
    package="qemu-system-misc",
    virtme="s390x",
    bus="ccw",
    profiles={
        "kvm": Profile(board="s390-ccw-virtio", cpu="host"),
        "tcg": Profile(board="s390-ccw-virtio", cpu="max", kernel_arguments=("cryptomgr.notests",)),
    },
    proof=None,
    console="ttysclp0",
    serial=("-device", "sclpconsole,chardev=console"),
    console_arguments=("console=ttysclp0", "earlyprintk=sclp"),
    kernel_arguments=(),
    nmi="inject-nmi",
    nmi_arguments=(),
    elf=(22,),
    image=Path("arch/s390/boot/bzImage"),
    image_name="an s390x bzImage",
    image_format="flat",
    make="s390",
    crypto=("arch/s390/crypto/", "drivers/s390/crypto/"),
    config="S390",
    debian="s390x",
    flavours=("s390x",),
    calls_32_bit=False,
    pointer=r"Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \(",
    registers=r"Krnl (PSW|GPRS|Code)|           R:\d|           [0-9a-f]{16} ",
    wheels="s390x",
    without_wheel={"cryptography": "python3-cryptography", "cffi": "python3-cffi-backend"},
    cross="s390x-linux-gnu-",
)

ARCHITECTURES = (_X86_64, _ARM64, _ARMHF, _I386, _PPC64EL, _RISCV64, _S390X)
# A console does not say whose it is.
POINTERS = "|".join(row.pointer for row in ARCHITECTURES)
REGISTERS = "|".join(row.registers for row in ARCHITECTURES)


def default() -> Architecture:
    """Return that of whatever does not tell its own: this machine's, the first where it has no row."""
    machine = os.uname().machine
    return next((row for row in ARCHITECTURES if machine in row.hosts), ARCHITECTURES[0])


def named(name: str) -> Architecture | None:
    """Return the row of that name, None when there is none."""
    return next((row for row in ARCHITECTURES if row.name == name), None)


def asked(word: str) -> Architecture | None:
    """Return the one that people call ``word``: its own name or Debian's, None when there is none."""
    return next((row for row in ARCHITECTURES if word in (row.name, row.debian)), None)


def of_config(config: Mapping[str, str]) -> Architecture | None:
    """Return the one that a .config is of (its values by symbol), None when it has no row, or is no .config."""
    return next((row for row in ARCHITECTURES if config.get(row.config) == "y"), None)
