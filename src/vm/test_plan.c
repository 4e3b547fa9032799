#include "base/json.h"
#include "vm/plan.h"
#include "vm/status.h"

#include <string.h>

static VmPlan *
sample(void)
{
    static const char *const argv[] = { "/usr/bin/qemu", "-name", "a \"b\"\n\xc3\xa9", NULL };
    VmPlan *plan = vm_plan_new();

    plan->name = g_strdup("web1");
    plan->uuid = g_strdup("1b4e28ba-2fa1-11d2-883f-0016d3cca427");
    plan->id = 12;
    plan->run_path = g_strdup("/run/kho/qemu/web1");
    plan->log_path = g_strdup("/var/log/kho/qemu/web1.log");
    plan->argv = g_strdupv((char **) argv);
    plan->monitor_fd = 20;
    vm_plan_add_file(plan, "/images/a", 30, FALSE);
    vm_plan_add_file(plan, "/images/b", 31, TRUE);
    plan->on_poweroff = VM_ACTION_DESTROY;
    plan->on_reboot = VM_ACTION_RESTART;
    plan->on_crash = VM_ACTION_PRESERVE;
    plan->paused = TRUE;
    plan->live_xml = g_strdup("<domain/>\n");
    plan->start_timeout_ms = 5000;
    return plan;
}

static void
test_round_trip(void)
{
    g_autoptr(VmPlan) plan = sample();
    g_autofree char *text = vm_plan_to_json(plan);
    g_autoptr(GError) error = NULL;
    g_autoptr(VmPlan) back = vm_plan_from_json(text, strlen(text), &error);

    g_assert_no_error(error);
    g_autofree char *again = vm_plan_to_json(back);
    g_assert_cmpstr(text, ==, again);
    g_assert_cmpuint(back->files->len, ==, 2);
    g_assert_cmpstr(((VmPlanFile *) back->files->pdata[1])->path, ==, "/images/b");
    g_assert_true(((VmPlanFile *) back->files->pdata[1])->read_only);
    g_assert_cmpstr(back->argv[2], ==, plan->argv[2]);
    g_assert_cmpint(back->on_crash, ==, VM_ACTION_PRESERVE);
}

/* A good plan with one member replaced (NULL: removed) is refused, naming it. */
static void
test_refuses(void)
{
    static const struct {
        const char *key, *value, *says;
        KhoErrorCode code;
    } rows[] = {
        { "version", "2", "version 2", KHO_ERROR_UNSUPPORTED },
        { "version", NULL, "version", KHO_ERROR_INVALID },
        { "name", NULL, "name", KHO_ERROR_INVALID },
        { "name", "5", "name", KHO_ERROR_INVALID },
        { "uuid", "null", "uuid", KHO_ERROR_INVALID },
        { "id", "-1", "id", KHO_ERROR_INVALID },
        { "id", "4294967296", "id", KHO_ERROR_INVALID },
        { "run-path", "\"relative\"", "absolute", KHO_ERROR_INVALID },
        { "argv", "[]", "argv", KHO_ERROR_INVALID },
        { "argv", "[1]", "argument 0", KHO_ERROR_INVALID },
        { "files", "{}", "files", KHO_ERROR_INVALID },
        { "files", "[{}]", "path", KHO_ERROR_INVALID },
        { "files", "[{\"path\":\"/a\",\"fd\":2,\"read-only\":true}]", "fd", KHO_ERROR_INVALID },
        { "files", "[{\"path\":\"/a\",\"fd\":20,\"read-only\":true}]", "twice", KHO_ERROR_INVALID },
        { "files",
          "[{\"path\":\"/a\",\"fd\":5,\"read-only\":true},{\"path\":\"/b\",\"fd\":5,\"read-only\":true}]",
          "twice", KHO_ERROR_INVALID },
        { "on-crash", "\"dance\"", "dance", KHO_ERROR_INVALID },
        { "paused", "1", "paused", KHO_ERROR_INVALID },
    };
    g_autoptr(VmPlan) plan = sample();
    g_autofree char *good = vm_plan_to_json(plan);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        json_auto json_t *json = json_parse(good, strlen(good), "the plan", NULL);
        if (rows[i].value)
            json_object_set_new(json, rows[i].key, json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        else
            json_object_del(json, rows[i].key);
        g_autofree char *text = json_line(json);
        g_assert_null(vm_plan_from_json(text, strlen(text), &error));
        g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].says));
    }
}

static void
test_status(void)
{
    static const char text[] =
        "{\"format\":1,\"name\":\"n\",\"uuid\":\"u\",\"id\":3,\"state\":\"in shutdown\",\"reason\":\"user\","
        "\"paused\":false,\"images-inactive\":true,\"since-ms\":1700000000000,\"started-ms\":1600000000000,"
        "\"pid\":44,\"pid-start-"
        "ticks\":55,"
        "\"boot-id\":\"b\",\"supervisor-pid\":66,\"supervisor-start-ticks\":77,\"unanswered-ms\":88,"
        "\"silent-since-ms\":1650000000000,"
        "\"version\":\"9\","
        "\"log-path\":\"/"
        "l\",\"on-poweroff\":\"destroy\",\"on-reboot\":\"restart\",\"on-crash\":\"preserve\"}";
    json_auto json_t *json = json_parse(text, strlen(text), "it", NULL);
    g_autoptr(VmStatus) status = vm_status_from_json(json, "it", NULL);
    const char *key;
    json_t *value;
    void *next;

    g_assert_nonnull(status);
    json_auto json_t *back = vm_status_to_json(status);
    g_autofree char *again = json_line(back);
    g_assert_cmpstr(again, ==, text);
    /* Each member is needed but these, and none may be of another type. */
    static const char *const optional[] = { "images-inactive", "unanswered-ms", "silent-since-ms", "version",
                                            NULL };
    json_object_foreach_safe (json, next, key, value) {
        json_auto json_t *without = json_copy(json);
        json_auto json_t *wrong = json_copy(json);
        g_autoptr(GError) error = NULL;
        json_object_del(without, key);
        json_object_set_new(wrong, key, json_array());
        g_autoptr(VmStatus) a = vm_status_from_json(without, "it", NULL);
        g_autoptr(VmStatus) b = vm_status_from_json(wrong, "it", &error);
        g_assert_cmpint(a != NULL, ==, g_strv_contains(optional, key));
        g_assert_null(b);
        g_assert_nonnull(strstr(error->message, key));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plan/round-trip", test_round_trip);
    g_test_add_func("/plan/refuses", test_refuses);
    g_test_add_func("/status/round-trip", test_status);
    return g_test_run();
}
