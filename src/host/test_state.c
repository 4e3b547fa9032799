/* The table of verbs and states: every pair either passes or says what the machine is and what to do. */
#include "base/error.h"
#include "host/machine.h"

#include <string.h>

static void
test_every_pair(void)
{
    for (guint verb = 0; verb < MACHINE_N_VERBS; verb++) {
        guint admitted = 0;
        for (guint state = KHO_DOMAIN_RUNNING; state < KHO_DOMAIN_N_STATES; state++) {
            g_autoptr(GError) error = NULL;
            if (state == KHO_DOMAIN_BLOCKED)
                continue;
            if (machine_state_admits((MachineVerb) verb, "web1", (KhoDomainState) state, &error)) {
                admitted++;
                continue;
            }
            g_test_message("%u in %u: %s", verb, state, error->message);
            g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
            g_assert_nonnull(strstr(error->message, "machine 'web1' is "));
            g_assert_null(strstr(error->message, "(null)"));
        }
        g_assert_cmpuint(admitted, >, 0);
    }
}

static void
test_words(void)
{
    static const struct {
        KhoDomainState state;
        const char *reason;
        gint number;
    } rows[] = {
        { KHO_DOMAIN_RUNNING, "booted", 1 },    { KHO_DOMAIN_RUNNING, "unpaused", 5 },
        { KHO_DOMAIN_PAUSED, "user", 1 },       { KHO_DOMAIN_PAUSED, "I/O error", 5 },
        { KHO_DOMAIN_SHUTOFF, "destroyed", 2 }, { KHO_DOMAIN_SHUTOFF, "crashed", 3 },
        { KHO_DOMAIN_CRASHED, "panicked", 1 },  { KHO_DOMAIN_RUNNING, "no such reason", 0 },
        { KHO_DOMAIN_PMSUSPENDED, "x", 0 },     { KHO_DOMAIN_SHUTDOWN, NULL, 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpint(kho_domain_reason_number(rows[i].state, rows[i].reason), ==, rows[i].number);
    for (guint a = 0; a < KHO_DOMAIN_N_STATES; a++)
        for (guint b = 0; b < a; b++)
            g_assert_cmpstr(kho_domain_state_word((KhoDomainState) a), !=,
                            kho_domain_state_word((KhoDomainState) b));
    g_assert_cmpstr(kho_domain_state_word(KHO_DOMAIN_SHUTOFF), ==, "shut off");
    g_assert_false(machine_state_is_active(KHO_DOMAIN_SHUTOFF));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state/every-pair", test_every_pair);
    g_test_add_func("/state/words", test_words);
    return g_test_run();
}
