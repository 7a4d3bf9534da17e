"""Functions that a program may need, in C; each is written only into one that does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Helper(NamedTuple):
    """A piece of C.

    Attributes:
        text: of it.
        needs: other pieces that have to be there.
        headers: that it includes.
    """

    text: str
    needs: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


HELPERS: dict[str, Helper] = {
    "result": Helper(
        """\
static long result(long value)
{
	return value < 0 ? -errno : value;
}
""",
        (),
        ("errno.h",),
    ),
    "show": Helper(
        """\
static void show(long value, const char *unit)
{
	const char *name = value < 0 ? strerrorname_np(-value) : NULL;

	if (name)
		printf("%s", name);
	else if (value < 0)
		printf("errno %ld", -value);
	else if (*unit)
		printf("%ld %s", value, unit);
	else
		printf("success");
}
""",
        (),
        ("stdio.h", "string.h"),
    ),
    "must": Helper(
        """\
/* What comes before the step that is judged: without it, nothing can be said. */
static long must(const char *call, long value)
{
	if (value < 0) {
		fprintf(stderr, "%s: %s: cannot be judged here\\n", call, strerror(errno));
		exit(2);
	}
	return value;
}
""",
        (),
        ("errno.h", "stdio.h", "stdlib.h", "string.h"),
    ),
    "expect": Helper(
        """\
static void expect(const char *call, long got, long wanted, const char *unit)
{
	if (got == wanted)
		return;
	printf("%s: got ", call);
	show(got, unit);
	printf(", expected ");
	show(wanted, unit);
	printf("\\n");
	exit(1);
}
""",
        ("show",),
        ("stdlib.h",),
    ),
    "expect_any": Helper(
        """\
static void expect_any(const char *call, long got, const char *wanted, const char *unit)
{
	printf("%s: got ", call);
	show(got, unit);
	printf(", expected %s\\n", wanted);
	exit(1);
}
""",
        ("show",),
        ("stdlib.h",),
    ),
    "expect_bytes": Helper(
        """\
static void expect_bytes(const char *call, const unsigned char *got,
			 const unsigned char *wanted, size_t length)
{
	size_t at = 0, end;

	while (at < length && got[at] == wanted[at])
		at++;
	if (at == length)
		return;
	end = at + 8 < length ? at + 8 : length;
	printf("%s: at byte %zu got ", call, at);
	for (size_t i = at; i < end; i++)
		printf("%02x", got[i]);
	printf(", expected ");
	for (size_t i = at; i < end; i++)
		printf("%02x", wanted[i]);
	printf("\\n");
	exit(1);
}
""",
        (),
        ("stdio.h", "stdlib.h", "stddef.h"),
    ),
    "expect_hash": Helper(
        """\
/* FNV-1a, for bytes that are too many to stand here. */
static void expect_hash(const char *call, const unsigned char *got, size_t length,
			unsigned long long wanted)
{
	unsigned long long hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ got[i]) * 0x100000001b3ULL;
	if (hash == wanted)
		return;
	printf("%s: got %zu bytes with the hash %016llx, expected %016llx\\n",
	       call, length, hash, wanted);
	exit(1);
}
""",
        (),
        ("stdio.h", "stdlib.h", "stddef.h"),
    ),
    "fill": Helper(
        """\
static void fill(unsigned char *to, size_t length, unsigned int first, unsigned int step,
		 unsigned int modulus)
{
	for (size_t i = 0; i < length; i++)
		to[i] = (first + i * step) % modulus;
}
""",
        (),
        ("stddef.h",),
    ),
    "repeat": Helper(
        """\
/* Go on with the bytes that stand before. */
static void repeat(unsigned char *to, size_t length, size_t period)
{
	for (size_t i = 0; i < length; i++)
		to[i] = *(to + i - period);
}
""",
        (),
        ("stddef.h",),
    ),
    "bind_alg": Helper(
        """\
static int bind_alg(int fd, const char *type, const char *name, unsigned int feat, unsigned int mask)
{
	struct sockaddr_alg address = {
		.salg_family = AF_ALG,
		.salg_feat = feat,
		.salg_mask = mask,
	};

	memcpy(address.salg_type, type, strnlen(type, sizeof(address.salg_type)));
	memcpy(address.salg_name, name, strnlen(name, sizeof(address.salg_name)));
	return bind(fd, (struct sockaddr *)&address, sizeof(address));
}
""",
        (),
        ("string.h", "sys/socket.h", "linux/if_alg.h"),
    ),
    "message": Helper(
        """\
struct message {
	struct msghdr header;
	struct iovec parts[PARTS];
	unsigned char control[CONTROL] __attribute__((aligned(8)));
};
""",
        (),
        ("sys/socket.h", "sys/uio.h"),
    ),
    "add_control": Helper(
        """\
static void *add_control(struct message *m, int level, int type, size_t length)
{
	struct cmsghdr *cmsg = (struct cmsghdr *)(m->control + m->header.msg_controllen);

	cmsg->cmsg_level = level;
	cmsg->cmsg_type = type;
	cmsg->cmsg_len = CMSG_LEN(length);
	m->header.msg_control = m->control;
	m->header.msg_controllen += CMSG_SPACE(length);
	return CMSG_DATA(cmsg);
}
""",
        ("message",),
        ("sys/socket.h",),
    ),
    "add_data": Helper(
        """\
static void add_data(struct message *m, const void *data, size_t length)
{
	m->header.msg_iov = m->parts;
	m->parts[m->header.msg_iovlen].iov_base = (void *)data;
	m->parts[m->header.msg_iovlen++].iov_len = length;
}
""",
        ("message",),
    ),
    "set_number": Helper(
        """\
/* ALG_SET_OP and ALG_SET_AEAD_ASSOCLEN */
static void set_number(struct message *m, int type, __u32 value)
{
	memcpy(add_control(m, SOL_ALG, type, sizeof(value)), &value, sizeof(value));
}
""",
        ("add_control", "sol_alg"),
        ("linux/types.h", "linux/if_alg.h"),
    ),
    "set_iv": Helper(
        """\
static void set_iv(struct message *m, const void *iv, __u32 claimed, size_t length)
{
	unsigned char *data = add_control(m, SOL_ALG, ALG_SET_IV, sizeof(claimed) + length);

	memcpy(data, &claimed, sizeof(claimed));
	memcpy(data + sizeof(claimed), iv, length);
}
""",
        ("add_control", "sol_alg"),
        ("linux/types.h", "linux/if_alg.h"),
    ),
    "sol_alg": Helper(
        """\
#ifndef SOL_ALG
#define SOL_ALG 279
#endif
""",
        (),
        ("sys/socket.h",),
    ),
    "key_serial": Helper(
        """\
#ifndef ALG_SET_KEY_BY_KEY_SERIAL
#define ALG_SET_KEY_BY_KEY_SERIAL 7
#endif
""",
        (),
        ("linux/if_alg.h",),
    ),
    "reopen": Helper(
        """\
static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}
""",
        (),
        ("fcntl.h", "stdio.h"),
    ),
    "nowhere": Helper(
        """\
/* Memory that is not there. */
static void *nowhere(size_t length)
{
	return mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
""",
        (),
        ("sys/mman.h",),
    ),
    "taint": Helper(
        """\
/* Nonzero when the kernel has complained: Documentation/admin-guide/tainted-kernels.rst */
static unsigned long taint(void)
{
	unsigned long value = 0;
	FILE *file = fopen("/proc/sys/kernel/tainted", "r");

	if (!file || fscanf(file, "%lu", &value) != 1)
		value = 0;
	if (file)
		fclose(file);
	return value;
}
""",
        (),
        ("stdio.h",),
    ),
    "io_setup": Helper(
        """\
static long io_setup(unsigned int size, aio_context_t *context)
{
	return syscall(SYS_io_setup, size, context);
}
""",
        (),
        ("linux/aio_abi.h", "sys/syscall.h", "unistd.h"),
    ),
    "io_submit": Helper(
        """\
static long io_submit(aio_context_t context, long count, struct iocb **requests)
{
	return syscall(SYS_io_submit, context, count, requests);
}
""",
        (),
        ("linux/aio_abi.h", "sys/syscall.h", "unistd.h"),
    ),
    "io_getevents": Helper(
        """\
static long io_getevents(aio_context_t context, long least, long most, struct io_event *events,
			 struct timespec *timeout)
{
	return syscall(SYS_io_getevents, context, least, most, events, timeout);
}
""",
        (),
        ("linux/aio_abi.h", "sys/syscall.h", "time.h", "unistd.h"),
    ),
    "ring": Helper(
        """\
struct ring {
	int fd;
	struct io_uring_params parameters;
	unsigned char *rings;
	struct io_uring_sqe *slots;
};

static long ring_open(struct ring *ring, unsigned int entries)
{
	struct io_uring_params *p = &ring->parameters;
	size_t size;

	memset(p, 0, sizeof(*p));
	ring->fd = syscall(SYS_io_uring_setup, entries, p);
	if (ring->fd < 0)
		return -1;
	size = p->sq_off.array + p->sq_entries * sizeof(__u32);
	if (size < p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe))
		size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	ring->rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			   IORING_OFF_SQ_RING);
	ring->slots = mmap(NULL, p->sq_entries * sizeof(*ring->slots), PROT_READ | PROT_WRITE,
			   MAP_SHARED, ring->fd, IORING_OFF_SQES);
	return ring->fd;
}
""",
        (),
        ("linux/io_uring.h", "string.h", "sys/mman.h", "sys/syscall.h", "unistd.h"),
    ),
    "ring_add": Helper(
        """\
static void ring_add(struct ring *ring, const struct io_uring_sqe *request)
{
	__u32 *tail = (__u32 *)(ring->rings + ring->parameters.sq_off.tail);
	__u32 slot = *tail & (ring->parameters.sq_entries - 1);

	ring->slots[slot] = *request;
	((__u32 *)(ring->rings + ring->parameters.sq_off.array))[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}
""",
        ("ring",),
    ),
    "ring_enter": Helper(
        """\
static long ring_enter(struct ring *ring, unsigned int submit, unsigned int wait)
{
	return syscall(SYS_io_uring_enter, ring->fd, submit, wait,
		       wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
}
""",
        ("ring",),
    ),
    "ring_take": Helper(
        """\
/* The next completion; data that no request has when there is none. */
static struct io_uring_cqe ring_take(struct ring *ring)
{
	struct io_uring_cqe none = { .user_data = ~0ULL, .res = -ETIME };
	__u32 *head = (__u32 *)(ring->rings + ring->parameters.cq_off.head);
	__u32 *tail = (__u32 *)(ring->rings + ring->parameters.cq_off.tail);
	struct io_uring_cqe *all = (struct io_uring_cqe *)(ring->rings + ring->parameters.cq_off.cqes);

	if (*head == __atomic_load_n(tail, __ATOMIC_ACQUIRE))
		return none;
	none = all[*head & (ring->parameters.cq_entries - 1)];
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return none;
}
""",
        ("ring",),
        ("errno.h",),
    ),
    "turns": Helper(
        """\
/* Threads take turns: a step begins when the one before it is done, or sleeps in the kernel. */
static volatile int turn;
static volatile pid_t caller;

static void until_asleep(pid_t thread)
{
	char path[64], state = 'R';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
	while (state == 'R' && caller == thread) {
		file = fopen(path, "r");
		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			state = 'X';
		if (file)
			fclose(file);
	}
}

static void begin(int step)
{
	while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) < step)
		sched_yield();
	if (caller && caller != gettid())
		until_asleep(caller);
	caller = 0;
}

static void done(int step)
{
	if (caller == gettid())
		caller = 0;
	if (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) <= step)
		__atomic_store_n(&turn, step + 1, __ATOMIC_RELEASE);
}
""",
        (),
        ("pthread.h", "sched.h", "stdio.h", "unistd.h"),
    ),
    "blocks": Helper(
        """\
/* The next step comes while this one is in the kernel. */
static void blocks(int step)
{
	caller = gettid();
	__atomic_store_n(&turn, step + 1, __ATOMIC_RELEASE);
}
""",
        ("turns",),
    ),
}


def ordered(wanted: Iterable[str]) -> list[str]:
    """Return the helpers that are wanted and those they need, in an order that compiles."""
    found: set[str] = set()

    def add(name: str) -> None:
        if name not in found:
            found.add(name)
            for each in HELPERS[name].needs:
                add(each)

    for name in wanted:
        add(name)
    order: list[str] = []

    def place(name: str) -> None:
        for each in HELPERS[name].needs:
            place(each)
        if name not in order:
            order.append(name)

    for name in HELPERS:
        if name in found:
            place(name)
    return order
