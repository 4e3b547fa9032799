/* Names in folders: making a nameless file, giving it a name, renaming, unlinking, asking for free space.
 * What is done to the bytes of an open file lives in base/fd.h; the publishing protocols live above. */
#ifndef KHO_BASE_ENTRY_H
#define KHO_BASE_ENTRY_H

#include <glib.h>
#include <sys/types.h>

/* A regular file without a name in @dirfd's file system (O_TMPFILE, O_RDWR), gone when its last descriptor is
 * closed unless entry_link names it. -1 with @error; KHO_ERROR_UNSUPPORTED where the file system has none. */
int entry_make_nameless(int dirfd, mode_t mode, const char *label, GError **error);

/* Gives the nameless @fd the name @name in @dirfd; KHO_ERROR_EXISTS where it is taken. */
gboolean entry_link(int fd, int dirfd, const char *name, const char *label, GError **error);

/* Renames within @dirfd. Where not @replace and @to exists: KHO_ERROR_EXISTS, nothing changed. */
gboolean entry_rename(int dirfd, const char *from, const char *to, gboolean replace, const char *label,
                      GError **error);

gboolean entry_unlink(int dirfd, const char *name, const char *label, GError **error);

/* Removes @path durably. TRUE as well where nothing is there to be seen, as in a folder that one may not
 * search, or of a file system that is read-only: for taking back what may never have been made. */
gboolean entry_remove_if_there(const char *path, GError **error);

/* Renames the folder @from to the name @to, which must be free: KHO_ERROR_EXISTS. */
gboolean entry_rename_folder(int dirfd, const char *from, const char *to, const char *label, GError **error);

/* Makes a folder of exactly @mode; KHO_ERROR_EXISTS where anything stands there. */
gboolean entry_make_folder(const char *path, mode_t mode, GError **error);

/* KHO_ERROR_DENIED where entries cannot be made in that folder: rights, or a file system that is read-only.
 */
gboolean entry_check_writable(const char *path, GError **error);

/* What stands in a folder, in byte order: char *, owned by the array. */
GPtrArray *entry_list(const char *path, GError **error);

/* Removes an empty folder; TRUE as well when it is gone already or somebody put something into it. */
gboolean entry_remove_folder(const char *path, GError **error);

/* Is @name in @dirfd (not followed when a symbolic link) the file that @fd is open on? */
gboolean entry_is_file(int dirfd, const char *name, int fd);

/* Is there anything called @name, be it a symbolic link that leads nowhere? */
gboolean entry_exists(int dirfd, const char *name);

/* What names the file at @path in a header that is read from @folder: its name alone where it lies there
 * ("./a:b" where it could be taken for a protocol), @path elsewhere. Both are taken as they are written. */
char *entry_name_from(const char *folder, const char *path);

/* What the file system of @fd has free for an unprivileged writer. */
gboolean entry_free_space(int fd, guint64 *bytes, const char *label, GError **error);

/* KHO_ERROR_NO_SPACE where the file system of @fd has not @bytes free for an unprivileged writer. */
gboolean entry_check_space(int fd, guint64 bytes, const char *label, GError **error);

/* Where @path leads: the place of what it names, or, where nothing stands there, of what a file made by that
 * name would be: symbolic links that lead nowhere are followed by hand. NULL with KHO_ERROR_INVALID where
 * they lead in a circle. */
char *entry_follow(const char *path, GError **error);

/* Gives @fd to another owner and group, to each where rights allow; whether the group is that one now. */
gboolean entry_try_owner(int fd, uid_t uid, gid_t gid);

/* Gives @fd the access list of the file @from, where that has one and the file system of @fd keeps such.
 * After the mode was set, of which it is a part. Not @keeps_group: the file's group is another one, and what
 * the list allows the group is left out. */
void entry_try_access_list(int fd, int from, gboolean keeps_group);

#endif
