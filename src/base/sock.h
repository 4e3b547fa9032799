/* Unix sockets: listen, connect, accept, who is at the other end. A socket's address holds 107 bytes: a
 * longer path is reached through a descriptor of its folder. What is said over them lives above. */
#ifndef KHO_BASE_SOCK_H
#define KHO_BASE_SOCK_H

#include <glib.h>
#include <sys/types.h>

/* A listening socket named @name in the folder @dirfd, of mode 0600 whatever the umask, in place of a stale
 * one. */
int sock_listen(int dirfd, const char *name, GError **error);

/* Connects to @name in the folder @dirfd. KHO_ERROR_NOT_FOUND where nobody listens (no socket, or a stale
 * one), KHO_ERROR_TIMEOUT where its queue of callers stays full until @deadline_ms (base/pipe.h). */
int sock_connect(int dirfd, const char *name, gint64 deadline_ms, GError **error);

/* The next caller, as a descriptor that does not block; -1 without an error when there is none now. */
int sock_accept(int fd, GError **error);

/* Who connected. */
gboolean sock_peer(int fd, uid_t *uid, pid_t *pid, GError **error);

/* Two connected ends. */
gboolean sock_pair(int *one, int *other, GError **error);

/* Waits for the descriptor that the other end sends with one byte: -1 with @error where none comes. */
int sock_receive_fd(int fd, gint64 deadline_ms, const char *what, GError **error);

/* The other end reads that nothing more comes. */
void sock_end_sending(int fd);

/* One send(2) that raises no SIGPIPE: bytes sent, or -1 with errno. */
gssize sock_send_some(int fd, const void *buf, gsize len);

/* The same; with the first of these bytes the other end gets a descriptor of @passed's open file. */
gssize sock_send_some_with(int fd, const void *buf, gsize len, int passed);

#endif
