/* The tree on disk: where everything lives, which names are allowed. Paths only; locks are in lock.h,
 * atomic publishing in publish.h. */
#ifndef KHO_STORE_TREE_H
#define KHO_STORE_TREE_H

#include <kho/error.h>

/* The four roots. Every path below is built from one of them, absolute, without a trailing slash. */
typedef struct {
    char *etc;  /* /etc/kho,      ROOT/etc,  $XDG_CONFIG_HOME/kho */
    char *lib;  /* /var/lib/kho,  ROOT/lib,  $XDG_DATA_HOME/kho */
    char *log;  /* /var/log/kho,  ROOT/log,  $XDG_STATE_HOME/kho */
    char *run;  /* /run/kho,      ROOT/run,  $XDG_RUNTIME_DIR/kho */
    char *root; /* as --root gave it, absolute; NULL for the system and user trees */
} StoreTree;

/**
 * store_tree_open:
 * @root: --root or KHO_ROOT, made absolute; NULL chooses the system tree for uid 0, the user's otherwise
 *
 * Makes the folders that are missing (0711 for run and lib, 0755 etc and log as root; 0700 per user) and
 * checks the tree's version file (lib/version, "1"): KHO_ERROR_UNSUPPORTED when the tree is newer than this
 * kho.
 */
StoreTree *store_tree_open(const char *root, GError **error);
void store_tree_free(StoreTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreTree, store_tree_free)

/* Names of machines, pools, snapshots, points: valid UTF-8, no slash, NUL, control or invisible character
 * (U+200B, U+202E, ...), not "." or "..", no leading '-' or '.', no blank at either end, 1 to 200 bytes.
 * KHO_ERROR_INVALID says which rule @name breaks; @what is "machine", "pool", ... */
gboolean store_name_check(const char *name, const char *what, GError **error);
/* The same for what is a file's name as it stands in a folder, a volume's: that may have blanks at its ends.
 */
gboolean store_file_name_check(const char *name, const char *what, GError **error);

/* A path that a plan or QEMU is to be told: absolute, and valid UTF-8, since both are JSON.
 * KHO_ERROR_INVALID;
 * @what is "save file", "store", ... */
gboolean store_path_check(const char *path, const char *what, GError **error);
/* Does @path lie where kho keeps things of its own, whose names nobody else may choose? Images do not. */
gboolean store_path_is_own(const StoreTree *tree, const char *path);

/* Each returns a new string. */
char *store_path_domain(const StoreTree *tree, const char *name); /* etc/qemu/NAME.xml */
char *store_path_domain_autostart(const StoreTree *tree,
                                  const char *name); /* etc/qemu/autostart/NAME.xml -> ../NAME.xml */
char *store_path_managed_save(const StoreTree *tree, const char *domain); /* lib/qemu/save/NAME.save */
char *store_path_pool(const StoreTree *tree, const char *name);           /* etc/storage/NAME.xml */
char *store_path_pool_autostart(const StoreTree *tree, const char *name); /* etc/storage/autostart/NAME.xml */
char *store_path_pool_formats(const StoreTree *tree, const char *uuid);   /* lib/storage/UUID.json */
char *store_path_images(const StoreTree *tree);                           /* lib/images */
char *store_path_snapshots(const StoreTree *tree, const char *domain);    /* lib/qemu/snapshot/NAME */
char *store_path_log(const StoreTree *tree, const char *domain);          /* log/qemu/NAME.log */
char *store_path_domain_run(const StoreTree *tree, const char *name);     /* run/qemu/NAME */
char *
store_path_pool_run(const StoreTree *tree, const char *name); /* run/storage/NAME.xml: the pool is active */

#endif
