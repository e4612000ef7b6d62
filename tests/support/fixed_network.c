/* A network that does not change: a program that asks the kernel to be told of new links and addresses is refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int bind(int socket, const struct sockaddr *address, socklen_t size) {
    if (address->sa_family == AF_NETLINK && ((const struct sockaddr_nl *)address)->nl_groups) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_bind, socket, address, size);
}
