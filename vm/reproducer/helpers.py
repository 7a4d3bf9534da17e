"""Functions that a program may need, in C; each is written only into one that does."""

from __future__ import annotations

import re
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


_SHARED = """\
static struct {
	volatile int turn;
	volatile pid_t caller;
} *shared;
"""

HELPERS: dict[str, Helper] = {
    "must": Helper(
        """\
/* Without it, nothing can be said of what is judged. */
static long must(const char *call, long value)
{
	if (value < 0)
		err(2, "%s", call);
	return value;
}
""",
        (),
        ("err.h",),
    ),
    "succeeds": Helper(
        """\
static long succeeds(const char *call, long got)
{
	if (got >= 0)
		return got;
	printf("%s: got %s, expected success\\n", call, strerrorname_np(errno) ?: strerror(errno));
	exit(1);
}
""",
        (),
        ("errno.h", "stdlib.h", "string.h"),
    ),
    "expect": Helper(
        """\
static long expect(const char *call, long got, long wanted, const char *said)
{
	if ((got < 0 ? -errno : got) == wanted)
		return got;
	if (got < 0)
		printf("%s: got %s, expected %s\\n", call, strerrorname_np(errno) ?: strerror(errno), said);
	else
		printf("%s: got UNIT, expected %s\\n", call, got, said);
	exit(1);
}
""",
        (),
        ("errno.h", "stdlib.h", "string.h"),
    ),
    "expect_bytes": Helper(
        """\
static void expect_bytes(const char *call, const void *got, const void *wanted, size_t length)
{
	const unsigned char *one = got, *other = wanted;

	for (size_t i = 0; i < length; i++) {
		if (one[i] == other[i])
			continue;
		printf("%s: at byte %zu got %02x, expected %02x\\n", call, i, one[i], other[i]);
		exit(1);
	}
}
""",
        (),
        ("stdlib.h",),
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
        ("stdlib.h",),
    ),
    "expect_answer": Helper(
        """\
/* Netlink tells of errors in its answer. */
static void expect_answer(const char *call, const unsigned char *answer, long length, int wanted,
			  const char *said)
{
	while (length >= (long)(sizeof(struct nlmsghdr) + sizeof(struct nlmsgerr))) {
		const struct nlmsghdr *h = (const void *)answer;
		const struct nlmsgerr *e = (const void *)(answer + NLMSG_HDRLEN);

		if (h->nlmsg_type == NLMSG_ERROR && e->error != wanted) {
			printf("%s: the answer is %s, expected %s\\n", call,
			       e->error ? strerror(-e->error) : "success", said);
			exit(1);
		}
		answer += NLMSG_ALIGN(h->nlmsg_len);
		length -= NLMSG_ALIGN(h->nlmsg_len);
	}
}
""",
        (),
        ("stdlib.h", "string.h", "linux/netlink.h"),
    ),
    "add": Helper(
        """\
static void add(struct msghdr *m, int type, const void *value, size_t length)
{
	struct cmsghdr *c = (void *)((char *)m->msg_control + m->msg_controllen);

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(length), .cmsg_level = SOL_ALG, .cmsg_type = type };
	memcpy(CMSG_DATA(c), value, length);
	m->msg_controllen += CMSG_SPACE(length);
}
""",
        (),
        ("string.h", "sys/socket.h", "linux/if_alg.h"),
    ),
    "add_of": Helper(
        """\
static void add_of(struct msghdr *m, int level, int type, const void *value, size_t length)
{
	struct cmsghdr *c = (void *)((char *)m->msg_control + m->msg_controllen);

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(length), .cmsg_level = level, .cmsg_type = type };
	memcpy(CMSG_DATA(c), value, length);
	m->msg_controllen += CMSG_SPACE(length);
}
""",
        (),
        ("string.h", "sys/socket.h"),
    ),
    "file_with": Helper(
        """\
/* A file that was there before. */
static void file_with(const char *path, const void *data, size_t length, off_t offset)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0644);

	if (pwrite(fd, data, length, offset) < 0)
		err(2, "%s", path);
	close(fd);
}
""",
        (),
        ("err.h", "fcntl.h"),
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
    ),
    "ring": Helper(
        """\
struct ring {
	int fd;
	struct io_uring_params p;
	unsigned char *rings;
	struct io_uring_sqe *slots;
};

static int ring_open(struct ring *ring, unsigned int entries)
{
	struct io_uring_params *p = &ring->p;
	size_t submissions, completions;

	ring->fd = syscall(SYS_io_uring_setup, entries, p);
	if (ring->fd < 0)
		return -1;
	submissions = p->sq_off.array + p->sq_entries * sizeof(__u32);
	completions = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	ring->rings = mmap(NULL, submissions > completions ? submissions : completions,
			   PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->slots = mmap(NULL, p->sq_entries * sizeof(*ring->slots), PROT_READ | PROT_WRITE,
			   MAP_SHARED, ring->fd, IORING_OFF_SQES);
	return ring->fd;
}
""",
        (),
        ("linux/io_uring.h", "sys/mman.h", "sys/syscall.h"),
    ),
    "ring_add": Helper(
        """\
static void ring_add(struct ring *ring, const struct io_uring_sqe *request)
{
	__u32 *tail = (__u32 *)(ring->rings + ring->p.sq_off.tail);
	__u32 slot = *tail & (ring->p.sq_entries - 1);

	ring->slots[slot] = *request;
	((__u32 *)(ring->rings + ring->p.sq_off.array))[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}
""",
        ("ring",),
    ),
    "ring_take": Helper(
        """\
/* What the next request to be done has returned. */
static long ring_take(struct ring *ring)
{
	__u32 *head = (__u32 *)(ring->rings + ring->p.cq_off.head);
	__u32 *tail = (__u32 *)(ring->rings + ring->p.cq_off.tail);
	struct io_uring_cqe *all = (struct io_uring_cqe *)(ring->rings + ring->p.cq_off.cqes);
	long result;

	while (*head == __atomic_load_n(tail, __ATOMIC_ACQUIRE))
		syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	result = all[*head & (ring->p.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
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
        ("pthread.h", "sched.h"),
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
    "child_ended": Helper(
        """\
/* What another process says, this one says with it. */
static void child_ended(int number)
{
	int status;

	(void)number;
	while (waitpid(-1, &status, WNOHANG) > 0)
		if (status)
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
""",
        (),
        ("sys/wait.h",),
    ),
}


def shared_turns(text: str) -> str:
    """Return a piece of C in which not only threads take turns, but processes do."""
    before, declared, after = text.partition("static volatile int turn;\nstatic volatile pid_t caller;\n")
    after = after if declared else before
    after = re.sub(r"\b(turn|caller)\b", r"shared->\1", after).replace("/proc/self/task/%d/stat", "/proc/%d/stat")
    return (before + _SHARED if declared else "") + after


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
    # Each stands behind those that it needs.
    return [name for name in HELPERS if name in found]
