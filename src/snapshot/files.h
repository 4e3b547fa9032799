/* Which image files the machines of a tree and their snapshots name, and which file lies on which: looked up
 * anew for each decision, from definitions, live XML, metadata, the folders of pools and the images' headers.
 * Nothing is changed here. */
#ifndef KHO_SNAPSHOT_FILES_H
#define KHO_SNAPSHOT_FILES_H

#include "store/tree.h"

/* A file and one who names it, or names what lies on it. A file that several name is there several times. */
typedef struct NamedFile {
    char *path; /* absolute */
    char *format;
    char *machine;     /* NULL: nobody names it, but it lies in a pool, or beside one that was asked for */
    char *snapshot;    /* of that machine, which closed it; NULL: a disk of the machine itself */
    char *target;      /* the disk */
    char *maker;       /* NULL, or the machine that kho made it for, or what lies on it: nobody names it */
    gboolean is_below; /* only headers name it: what the above names lies on it */
    char *backing;     /* where its header leads; NULL: nowhere, or it cannot be read */
    char *unseen;      /* why what it lies on cannot be told; NULL: it can */
    char *backing_format;
    guint64 dev, ino; /* 0: it is not there */
    guint64 backing_dev, backing_ino;
} NamedFile;

/* All that is named, all overlays that kho made, all volumes of pools, and all that lies under these, of
 * NamedFile. A definition or metadata that cannot be read is an error, since it may name what somebody is
 * about to delete. What of the first two, or under them, is not there is among them, and says so (`unseen`);
 * but for an overlay that nobody names and that was taken out of its folder. */
GPtrArray *named_files(const StoreTree *tree, GError **error);

/* Adds the images that lie in the folder of @path and that nobody names, and what they lie on: those with a
 * hidden name, too, but for what kho is just making. */
gboolean named_files_add_folder(GPtrArray *files, const char *path, GError **error);

/* The image at @path, of @format (NULL: its header says), and all that it lies on, of NamedFile, from the
 * top. */
GPtrArray *named_files_chain(const char *path, const char *format, GError **error);

/* Whether @file is the one at @path, whatever links lead there. */
gboolean named_file_is(const NamedFile *file, const char *path);
/* Whether it lies directly on the one at @path. */
gboolean named_file_lies_on(const NamedFile *file, const char *path);

/* "disk vda of machine 'web1'", "snapshot 's1' of machine 'web1'", "PATH under disk ...", or its path; freed
 * with g_free. */
char *named_file_text(const NamedFile *file);

/* The first that is @path and that somebody names (the header of an image does not count), passing over what
 * @snapshot of @machine closed (NULL: nothing is passed over); NULL for none. */
const NamedFile *
named_files_other_user(const GPtrArray *files, const char *path, const char *machine, const char *snapshot);
/* The first that lies on @path; NULL for none. */
const NamedFile *named_files_above(const GPtrArray *files, const char *path);

/* The first that might lie on @path for all that can be told: somebody names it, or kho made it, and it
 * cannot be looked at now. What @path lies on itself does not. One that is named itself, if there is any;
 * NULL for none. */
const NamedFile *named_files_unseen(const GPtrArray *files, const char *path);
/* "what FILE (disk vda of machine 'b') lies on cannot be told: it is not there", and the ways out: "put it
 * back, take that disk out of ..."; freed with g_free. */
char *named_file_unseen_text(const NamedFile *file);
char *named_file_unseen_cure(const StoreTree *tree, const NamedFile *file);

#endif
