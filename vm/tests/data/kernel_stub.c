/*
 * Stands for AF_ALG where there is none (vm/tests/reproducer): sockets are descriptors of nothing, everything succeeds,
 * and the last call of a program gives what STUB_RESULT says: bytes, or a negative errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static long answer(long usual)
{
	const char *said = getenv("STUB_RESULT");
	long value = said ? atol(said) : usual;

	if (value >= 0)
		return value;
	errno = -value;
	return -1;
}

int socket(int family, int type, int protocol)
{
	(void)family, (void)type, (void)protocol;
	return open("/dev/null", O_RDWR);
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	(void)fd, (void)address, (void)length;
	return 0;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	(void)fd, (void)level, (void)value, (void)length;
	return option == atoi(getenv("STUB_OPTION") ?: "-1") ? answer(0) : 0;
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
	(void)fd, (void)address, (void)length;
	return open("/dev/null", O_RDWR);
}

static size_t length_of(const struct msghdr *message)
{
	size_t length = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		length += message->msg_iov[i].iov_len;
	return length;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	(void)fd, (void)flags;
	return message->msg_controllen && getenv("STUB_SEND") ? answer(0) : (long)length_of(message);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	(void)fd, (void)flags;
	for (size_t i = 0; i < message->msg_iovlen; i++)
		memset(message->msg_iov[i].iov_base, 0xab, message->msg_iov[i].iov_len);
	return answer(length_of(message));
}
