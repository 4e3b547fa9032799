#include "foreign/caged.h"

#include "base/error.h"
#include "foreign/cage.h"
#include "foreign/keeper.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether @path leads to kho, which QEMU's names are given to where it stands in for them. */
static gboolean
is_kho(const char *path, const struct stat *st)
{
    char *real = realpath(path, NULL);
    gboolean named = real && g_str_equal(strrchr(real, '/'), "/kho");
    struct stat own;

    free(real);
    return named
           || (stat("/proc/self/exe", &own) == 0 && st->st_dev == own.st_dev && st->st_ino == own.st_ino);
}

/* QEMU's program of that name, by its whole path; NULL with the reason where PATH has none. */
static char *
find_program(const char *name, const char *package, const char *wanted_by, GError **error)
{
    g_auto(GStrv) folders = g_strsplit(g_getenv("PATH") ? g_getenv("PATH") : "/usr/bin:/bin", ":", -1);
    gboolean met_kho = FALSE;

    for (char **folder = folders; *folder; folder++) {
        g_autofree char *path = g_build_filename(**folder ? *folder : ".", name, NULL);
        struct stat st;

        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || access(path, X_OK) != 0)
            continue;
        if (!is_kho(path, &st))
            return g_canonicalize_filename(path, NULL);
        met_kho = TRUE;
    }
    fail(error, KHO_ERROR_UNSUPPORTED, "%s is read by %s of QEMU, which is missing%s: install the package %s",
         wanted_by, name, met_kho ? " (what has that name on PATH is kho)" : "", package);
    return NULL;
}

gboolean
caged_start(Caged *caged, const SpawnSpec *spec, const char *package, const BrokerSpec *rules, GError **error)
{
    /* Arenas of addresses for each thread would take what the cage allows. */
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "MALLOC_ARENA_MAX", "2", TRUE);
    g_auto(GStrv) argv = g_strdupv((char **) spec->argv);
    g_autofree char *program = find_program(argv[0], package, rules->path, error);
    SpawnSpec start = *spec;

    if (!program)
        return FALSE;
    g_auto(Cage) cage;
    if (!cage_init(&cage, error))
        return FALSE;
    g_free(argv[0]);
    argv[0] = g_steal_pointer(&program);
    start.argv = (const char *const *) argv;
    start.env = (const char *const *) env;
    start.new_session = TRUE;
    start.confine = cage_enter;
    start.confine_data = &cage;
    if (!keeper_spawn(&start, &caged->child, error))
        return FALSE;
    int calls = cage_take_listener(&cage, error);
    if (calls >= 0)
        caged->broker = broker_start(calls, rules, error);
    return caged->broker != NULL;
}

void
caged_clear(Caged *caged)
{
    if (caged->child.pid > 0)
        spawn_end(&caged->child);
    g_clear_pointer(&caged->broker, broker_free);
}
