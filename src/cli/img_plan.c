#include "cli/img_plan.h"

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "cli/output.h"

static const char *const fits[] = {
    [KHO_PLAN_FITS] = "yes",
    [KHO_PLAN_MAY_FIT] = "perhaps",
    [KHO_PLAN_TOO_LARGE] = "no",
};

static void
print_json(const KhoImagePlan *plan)
{
    json_t *lost = json_array();
    gboolean knows = plan->free_bytes != G_MAXUINT64;

    for (guint i = 0; plan->lost && i < plan->lost->len; i++)
        json_array_append_new(lost, json_from_bytes(plan->lost->pdata[i]));
    out_json(json_pack("{s:I,s:I,s:I,s:I,s:o,s:s,s:o}", "read-bytes", (json_int_t) plan->read_bytes,
                       "write-bytes", (json_int_t) plan->write_bytes, "space-bytes",
                       (json_int_t) plan->space_bytes, "freed-bytes", (json_int_t) plan->freed_bytes,
                       "free-bytes", knows ? json_integer((json_int_t) plan->free_bytes) : json_null(),
                       "fits", fits[plan->fit], "lost", lost));
}

static void
print_text(const KhoImagePlan *plan)
{
    const struct {
        const char *label;
        guint64 bytes;
    } rows[] = { { "Read", plan->read_bytes },
                 { "Write", plan->write_bytes },
                 { "Space", plan->space_bytes } };
    g_autofree char *there = num_format_size(plan->free_bytes);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *size = num_format_size(rows[i].bytes);
        out_field(rows[i].label, "at most %s", size);
    }
    if (plan->freed_bytes > 0) {
        g_autofree char *freed = num_format_size(plan->freed_bytes);
        out_field("Frees", "%s", freed);
    }
    out_field("Free", "%s", plan->free_bytes == G_MAXUINT64 ? "not known" : there);
    out_field("Fits", "%s", fits[plan->fit]);
    for (guint i = 0; plan->lost && i < plan->lost->len; i++)
        out_field("Lost", "%s", (const char *) plan->lost->pdata[i]);
    if (!plan->lost)
        out_field("Lost", "nothing");
}

gboolean
img_plan_check(const CliRun *cli, gboolean plan, GError **error)
{
    return plan || !cli->json
           || fail(error, KHO_ERROR_INVALID, "--json goes with --plan: nothing else is printed");
}

gboolean
img_plan_tell(const CliRun *cli, const KhoImagePlan *plan, gboolean done)
{
    if (!done && plan->fit != KHO_PLAN_TOO_LARGE)
        return FALSE;
    if (cli->json)
        print_json(plan);
    else
        print_text(plan);
    return done;
}
