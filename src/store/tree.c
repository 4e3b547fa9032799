#include "store/tree.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/owner.h"
#include "store/lock.h"
#include "store/publish.h"

#include <string.h>
#include <unistd.h>

/* The version of the tree's layout that this kho writes and reads. */
#define TREE_VERSION   1
#define NAME_MAX_BYTES 200

/* Folders made below the four roots, parents first. */
static const struct {
    gsize root;       /* member of StoreTree */
    const char *path; /* "" is the root itself */
} folders[] = {
    { G_STRUCT_OFFSET(StoreTree, etc), "" },
    { G_STRUCT_OFFSET(StoreTree, etc), "/qemu" },
    { G_STRUCT_OFFSET(StoreTree, etc), "/qemu/autostart" },
    { G_STRUCT_OFFSET(StoreTree, etc), "/storage" },
    { G_STRUCT_OFFSET(StoreTree, etc), "/storage/autostart" },
    { G_STRUCT_OFFSET(StoreTree, lib), "" },
    { G_STRUCT_OFFSET(StoreTree, lib), "/images" },
    { G_STRUCT_OFFSET(StoreTree, lib), "/journal" },
    { G_STRUCT_OFFSET(StoreTree, lib), "/qemu" },
    { G_STRUCT_OFFSET(StoreTree, lib), "/qemu/snapshot" },
    { G_STRUCT_OFFSET(StoreTree, lib), "/qemu/save" },
    { G_STRUCT_OFFSET(StoreTree, lib), "/storage" },
    { G_STRUCT_OFFSET(StoreTree, log), "" },
    { G_STRUCT_OFFSET(StoreTree, log), "/qemu" },
    { G_STRUCT_OFFSET(StoreTree, run), "" },
    { G_STRUCT_OFFSET(StoreTree, run), "/qemu" },
    { G_STRUCT_OFFSET(StoreTree, run), "/storage" },
    { G_STRUCT_OFFSET(StoreTree, run), "/lock" },
    { G_STRUCT_OFFSET(StoreTree, run), "/lock/qemu" },
    { G_STRUCT_OFFSET(StoreTree, run), "/lock/storage" },
    { G_STRUCT_OFFSET(StoreTree, run), "/lock/name" },
};

static StoreTree *
tree_place(const char *root)
{
    StoreTree *tree = g_new0(StoreTree, 1);

    if (root) {
        tree->root = g_canonicalize_filename(root, NULL);
        tree->etc = g_build_filename(tree->root, "etc", NULL);
        tree->lib = g_build_filename(tree->root, "lib", NULL);
        tree->log = g_build_filename(tree->root, "log", NULL);
        tree->run = g_build_filename(tree->root, "run", NULL);
    } else if (geteuid() == 0) {
        tree->etc = g_strdup("/etc/kho");
        tree->lib = g_strdup("/var/lib/kho");
        tree->log = g_strdup("/var/log/kho");
        tree->run = g_strdup("/run/kho");
    } else {
        tree->etc = g_build_filename(g_get_user_config_dir(), "kho", NULL);
        tree->lib = g_build_filename(g_get_user_data_dir(), "kho", NULL);
        tree->log = g_build_filename(g_get_user_state_dir(), "kho", NULL);
        tree->run = g_build_filename(g_get_user_runtime_dir(), "kho", NULL);
    }
    return tree;
}

/* A root's own parents (the --root folder, ~/.config) are made too. */
static gboolean
make_parents(const char *path, mode_t mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);

    if (g_file_test(parent, G_FILE_TEST_IS_DIR))
        return TRUE;
    return make_parents(parent, mode, error) && owner_mkdir(parent, mode, error);
}

static gboolean
make_folders(const StoreTree *tree, GError **error)
{
    gboolean root = geteuid() == 0;

    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
        const char *base = G_STRUCT_MEMBER(char *, tree, folders[i].root);
        gboolean passable = folders[i].root == G_STRUCT_OFFSET(StoreTree, run)
                            || folders[i].root == G_STRUCT_OFFSET(StoreTree, lib);
        mode_t mode = !root ? 0700 : passable ? 0711 : 0755;
        g_autofree char *path = g_strconcat(base, folders[i].path, NULL);

        if (!*folders[i].path && !make_parents(base, root ? 0755 : 0700, error))
            return FALSE;
        if (!owner_mkdir(path, mode, error))
            return FALSE;
    }
    return TRUE;
}

/* 0 where the tree has no version yet. */
static gboolean
read_version(const char *path, guint64 *version, GError **error)
{
    g_autoptr(GError) absent = NULL;
    g_autofree char *text = fd_read_file(path, 64, NULL, &absent);

    *version = 0;
    if (!text && g_error_matches(absent, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    if (!text) {
        g_propagate_error(error, g_steal_pointer(&absent));
        return FALSE;
    }
    if (!num_parse_uint(g_strchomp(text), G_MAXUINT32, "tree version", version, NULL) || *version == 0)
        return fail(error, KHO_ERROR_CORRUPT, "%s holds no version number: \"%s\"", path, text);
    return TRUE;
}

/* Several commands may be the first on a tree: one of them writes the version. */
static gboolean
write_version(const StoreTree *tree, const char *path, guint64 *version, GError **error)
{
    g_autoptr(StoreLock) lock = store_lock_name(tree, "tree", "version", NULL, error);

    if (!lock || !read_version(path, version, error))
        return FALSE;
    if (*version > 0)
        return TRUE;
    *version = TREE_VERSION;
    return store_publish(path, G_STRINGIFY(TREE_VERSION) "\n", 2, 0644, error);
}

static gboolean
check_version(const StoreTree *tree, GError **error)
{
    g_autofree char *path = g_build_filename(tree->lib, "version", NULL);
    guint64 version;

    if (!read_version(path, &version, error) || (version == 0 && !write_version(tree, path, &version, error)))
        return FALSE;
    if (version > TREE_VERSION)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the tree has version %" G_GUINT64_FORMAT " (%s), this kho knows %d: use a newer kho",
                    version, path, TREE_VERSION);
    return TRUE;
}

StoreTree *
store_tree_open(const char *root, GError **error)
{
    if (root && !*root) {
        fail(error, KHO_ERROR_INVALID,
             "the root folder's name is empty: give --root or KHO_ROOT a folder, or unset KHO_ROOT");
        return NULL;
    }
    g_autoptr(StoreTree) tree = tree_place(root);

    if ((root && !store_path_check(tree->root, "root folder", error)) || !make_folders(tree, error)
        || !check_version(tree, error))
        return NULL;
    return g_steal_pointer(&tree);
}

void
store_tree_free(StoreTree *tree)
{
    if (!tree)
        return;
    g_free(tree->etc);
    g_free(tree->lib);
    g_free(tree->log);
    g_free(tree->run);
    g_free(tree->root);
    g_free(tree);
}

gboolean
store_path_check(const char *path, const char *what, GError **error)
{
    g_autofree char *shown = error_one_line(path);

    if (!g_path_is_absolute(path))
        return fail(error, KHO_ERROR_INVALID, "the %s '%s' is not given by its absolute path", what, shown);
    return g_utf8_validate(path, -1, NULL)
           || fail(error, KHO_ERROR_INVALID,
                   "the path of the %s '%s' has bytes that are no UTF-8: give it another name", what, shown);
}

static gboolean
lies_in(const char *path, const char *folder)
{
    gsize len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

gboolean
store_path_is_own(const StoreTree *tree, const char *path)
{
    g_autofree char *plain = g_canonicalize_filename(path, NULL), *images = store_path_images(tree);

    return lies_in(plain, tree->etc) || lies_in(plain, tree->log) || lies_in(plain, tree->run)
           || (lies_in(plain, tree->lib) && !lies_in(plain, images));
}

/* Marks of direction and of format, and breaks: two names that look the same must be the same. */
static gboolean
is_invisible(gunichar c)
{
    GUnicodeType type = g_unichar_type(c);

    return type == G_UNICODE_FORMAT || type == G_UNICODE_LINE_SEPARATOR
           || type == G_UNICODE_PARAGRAPH_SEPARATOR;
}

gboolean
store_file_name_check(const char *name, const char *what, GError **error)
{
    if (!*name)
        return fail(error, KHO_ERROR_INVALID, "the name of a %s is empty", what);
    g_autofree char *valid = g_utf8_make_valid(name, -1);
    g_autofree char *shown = error_one_line(valid);

    if (strlen(name) > NAME_MAX_BYTES)
        return fail(error, KHO_ERROR_INVALID, "%s name \"%.40s...\" has %zu bytes: at most %d are allowed",
                    what, shown, strlen(name), NAME_MAX_BYTES);
    if (!g_utf8_validate(name, -1, NULL))
        return fail(error, KHO_ERROR_INVALID, "%s name \"%s\" is not valid UTF-8", what, shown);
    if (*name == '.' || *name == '-')
        return fail(error, KHO_ERROR_INVALID,
                    "%s name \"%s\" begins with '%c': choose another first character", what, shown, *name);
    for (const char *c = name; *c; c = g_utf8_next_char(c)) {
        if (*c == '/')
            return fail(error, KHO_ERROR_INVALID, "%s name \"%s\" contains a slash", what, shown);
        if (g_unichar_iscntrl(g_utf8_get_char(c)))
            return fail(error, KHO_ERROR_INVALID, "%s name \"%s\" contains a control character", what, shown);
        if (is_invisible(g_utf8_get_char(c)))
            return fail(
                error, KHO_ERROR_INVALID,
                "a %s name contains U+%04X, which cannot be seen, or turns what is around it: leave it out",
                what, g_utf8_get_char(c));
    }
    return TRUE;
}

gboolean
store_name_check(const char *name, const char *what, GError **error)
{
    if (!store_file_name_check(name, what, error))
        return FALSE;
    if (!g_unichar_isspace(g_utf8_get_char(name))
        && !g_unichar_isspace(g_utf8_get_char(g_utf8_find_prev_char(name, name + strlen(name)))))
        return TRUE;
    return fail(error, KHO_ERROR_INVALID, "%s name \"%s\" has a blank at one end: leave it out", what, name);
}

static char *
path_of(const char *root, const char *folder, const char *name, const char *suffix)
{
    return g_strconcat(root, folder, name, suffix, NULL);
}

char *
store_path_domain(const StoreTree *tree, const char *name)
{
    return path_of(tree->etc, "/qemu/", name, ".xml");
}

char *
store_path_domain_autostart(const StoreTree *tree, const char *name)
{
    return path_of(tree->etc, "/qemu/autostart/", name, ".xml");
}

char *
store_path_snapshots(const StoreTree *tree, const char *domain)
{
    return path_of(tree->lib, "/qemu/snapshot/", domain, "");
}

char *
store_path_managed_save(const StoreTree *tree, const char *domain)
{
    return path_of(tree->lib, "/qemu/save/", domain, ".save");
}

char *
store_path_pool(const StoreTree *tree, const char *name)
{
    return path_of(tree->etc, "/storage/", name, ".xml");
}

char *
store_path_pool_autostart(const StoreTree *tree, const char *name)
{
    return path_of(tree->etc, "/storage/autostart/", name, ".xml");
}

char *
store_path_images(const StoreTree *tree)
{
    return path_of(tree->lib, "/images", "", "");
}

char *
store_path_log(const StoreTree *tree, const char *domain)
{
    return path_of(tree->log, "/qemu/", domain, ".log");
}

char *
store_path_domain_run(const StoreTree *tree, const char *name)
{
    return path_of(tree->run, "/qemu/", name, "");
}

char *
store_path_pool_formats(const StoreTree *tree, const char *uuid)
{
    return path_of(tree->lib, "/storage/", uuid, ".json");
}

char *
store_path_pool_run(const StoreTree *tree, const char *name)
{
    return path_of(tree->run, "/storage/", name, ".xml");
}
