/* recover: finishing what a killed kho left. */
#include "base/error.h"
#include "base/json.h"
#include "cli/domain.h"
#include "cli/output.h"

typedef struct {
    const char *domain;
} RecoverArgs;

static const CliArg recover_args[] = {
    { CLI_STR, "DOMAIN", offsetof(RecoverArgs, domain), CLI_OPTIONAL,
      "name or uuid of the machine; without it, all", .object = CLI_MACHINE },
    { 0 },
};

static json_t *
recovery_json(const KhoRecovery *recovery)
{
    json_t *object = json_object();

    json_set_string(object, "name", recovery->name);
    json_set_string(object, "outcome", recovery->outcome);
    json_set_string(object, "error", recovery->why ? recovery->why->message : NULL);
    return object;
}

static gboolean
run_recover(CliRun *cli, const void *p, GError **error)
{
    const RecoverArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(GPtrArray) done = host ? kho_host_recover(host, a->domain, error) : NULL;
    g_autoptr(KhoDomain) known = NULL;
    const KhoRecovery *failed = NULL;
    json_auto json_t *list = json_array();

    if (!done)
        return FALSE;
    if (done->len == 0 && a->domain && !(known = kho_domain_lookup(host, a->domain, error)))
        return FALSE;
    for (guint i = 0; i < done->len; i++) {
        const KhoRecovery *recovery = done->pdata[i];
        json_array_append_new(list, recovery_json(recovery));
        if (recovery->why && !failed)
            failed = recovery;
        else if (recovery->why)
            out_warning("machine '%s': %s", recovery->name, recovery->why->message);
        else
            out_done(cli, "Domain '%s': %s", recovery->name, recovery->outcome);
    }
    if (cli->json)
        out_json(json_steal(&list));
    else if (done->len == 0)
        out_done(cli, "Nothing to recover");
    return !failed
           || fail(error, (KhoErrorCode) failed->why->code, "machine '%s': %s", failed->name,
                   failed->why->message);
}

const CliVerb verb_recover = {
    .name = "recover",
    .noun = "domain",
    .summary = "finish, or take back, what a killed command left half done",
    .description =
        "Every verb on a machine does so by itself before anything else; this does nothing else, and "
        "says what it did.",
    .examples = "kho recover\nkho recover web1",
    .args = recover_args,
    .args_bytes = sizeof(RecoverArgs),
    .json = TRUE,
    .run = run_recover,
};
