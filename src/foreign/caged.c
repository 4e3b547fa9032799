#include "foreign/caged.h"

#include "base/error.h"
#include "foreign/cage.h"
#include "foreign/keeper.h"

gboolean
caged_start(Caged *caged, const SpawnSpec *spec, const char *package, const BrokerSpec *rules, GError **error)
{
    /* Arenas of addresses for each thread would take what the cage allows. */
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "MALLOC_ARENA_MAX", "2", TRUE);
    g_autofree char *program = g_find_program_in_path(spec->argv[0]);
    SpawnSpec start = *spec;
    g_auto(Cage) cage;

    if (!cage_init(&cage, error))
        return FALSE;
    if (!program)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s is read by %s, which is missing: install the package %s", rules->path, spec->argv[0],
                    package);
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
