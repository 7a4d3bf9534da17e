#!@busybox@ sh
# The guest's process 1, rendered for one VM by vm/machine/init.py. It makes a minimal system out of a root that was
# mounted before, its own or the host's read-only one, in well under a second (no udev, no systemd), runs one command and switches the VM off.
# Every tool is an applet of the host's static busybox: fork and exec are what costs time here.

# Directories that are about to be covered by empty ones, but hold something the run needs (a clone under
# /tmp, say), are kept open and bound to the same path again afterwards.
@open_kept@

# By its path: the shell runs its applets through /proc/self/exe, and what is there so far is the host's /proc as
# its file server sees it, where that name means QEMU.
@busybox@ mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs -o mode=0755,nosuid,noexec dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666,noexec,nosuid devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
for covered in @covered@; do
    [ -d $covered ] && mount -t tmpfs -o mode=1777 tmpfs $covered
done
mkdir -p -m 0755 /run/vm/bin /run/vm/modprobe.d
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null

@bind_kept@

# What these directories show of the host can be changed in the guest; the changes end with it.
for shown in @overlaid@; do
    changes=/run/vm/overlay$shown
    mkdir -p "$changes/upper" "$changes/work"
    mount -t overlay -o "lowerdir=$shown,upperdir=$changes/upper,workdir=$changes/work" overlay "$shown" 2>/dev/null
done

# The kernel asks for modules by running modprobe: with this kernel's modules, and without the host's blacklists.
if [ -n @modules@ ]; then
    mkdir -p /run/vm/root/usr/lib/modules
    ln -s usr/lib /run/vm/root/lib
    ln -s @modules@ /run/vm/root/usr/lib/modules/@release@
    printf '#!@busybox@ sh\nexec @modprobe@ -d /run/vm/root -C /run/vm/modprobe.d "$@"\n' >/run/vm/bin/modprobe
    chmod 755 /run/vm/bin/modprobe
    echo /run/vm/bin/modprobe >/proc/sys/kernel/modprobe
    # A root of the guest's own has them there.
    [ -e /lib/modules/@release@ ] || [ ! -d /lib/modules ] ||
        { mount -t tmpfs tmpfs /lib/modules && ln -s @modules@ /lib/modules/@release@; }
fi

ifconfig lo up
hostname @hostname@

export PATH=/run/vm/bin:@path@ HOME=/tmp TERM=@term@ LANG=C.UTF-8
@environment@
cd @cwd@

port() {
    # Where the kernel has no virtio-console.
    for serial in @serial@; do
        if [ "${serial%%:*}" = "$1" ]; then
            stty -F /dev/${serial#*:} raw -echo clocal -crtscts
            echo /dev/${serial#*:}
            return
        fi
    done
    for named in /sys/class/virtio-ports/*; do
        if [ "$(cat $named/name)" = "$1" ]; then
            echo /dev/${named##*/}
            return
        fi
    done
    echo "vm: the guest has no virtio port $1" >/dev/console
    poweroff -f
}

@run@

# What is still on its way through a serial port.
exec 9>&-
poweroff -f
# Only reached when the line above failed: a process 1 that ends is a kernel panic, which is seen as well.
