/* Whose the files of a tree are: what root makes in a folder that belongs to another user is given to that
 * user, so that root's help locks nobody out of what is his own. To anybody but root these are the plain
 * calls. Not for images, which lie where nobody knows what a folder's owner stands for. */
#ifndef KHO_BASE_OWNER_H
#define KHO_BASE_OWNER_H

#include <glib.h>
#include <sys/types.h>

/* Opens @path; where it is missing it is made with @mode. O_CREAT, O_NOFOLLOW and O_CLOEXEC are added. */
int owner_open(const char *path, int flags, mode_t mode, GError **error);

/* fd_mkdir. */
gboolean owner_mkdir(const char *path, mode_t mode, GError **error);

/* For a file @fd that this process has just made in @folder, which may be opened with O_PATH. */
void owner_pass_on(int folder, int fd);

/* Gives the file @path that this process has just made to the owner of @other. */
void owner_as(const char *path, const char *other);

/* The name of the user whose @path is, where that is not who runs this; NULL otherwise, and where it cannot
 * be told. For messages. */
char *owner_other(const char *path);

#endif
