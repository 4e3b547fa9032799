/* What the verbs on machines share. */
#include "cli/domain.h"

#include "cli/output.h"

#include <jansson.h>

const CliArg domain_only_args[] = { CLI_DOMAIN_ARG(DomainArgs), { 0 } };

gboolean
cli_domain_open(const CliRun *cli, const char *which, CliDomain *out, GError **error)
{
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    KhoDomain *domain = host ? kho_domain_lookup(host, which, error) : NULL;

    if (!domain)
        return FALSE;
    *out = (CliDomain){ .host = g_steal_pointer(&host), .domain = domain, .name = kho_domain_name(domain) };
    return TRUE;
}

void
cli_domain_clear(CliDomain *opened)
{
    kho_domain_free(opened->domain);
    kho_host_free(opened->host);
}

static char *
unanswered_since(const KhoDomainStatus *status)
{
    gint64 since_s = (g_get_real_time() / 1000 - (gint64) status->unanswered_ms) / 1000;
    g_autoptr(GDateTime) since = g_date_time_new_from_unix_local(since_s);
    return since ? g_date_time_format(since, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
}

char *
cli_domain_state_text(const KhoDomainStatus *status)
{
    const char *word = kho_domain_state_word(status->state);

    if (status->unsupervised)
        return g_strdup_printf("%s (kho-vm does not answer)", word);
    if (status->unanswered_ms == 0)
        return g_strdup(word);
    g_autofree char *since = unanswered_since(status);
    return g_strdup_printf("%s (no answer since %s)", word, since);
}

void
cli_domain_warn_unanswered(const char *name, const KhoDomainStatus *status)
{
    if (status->unsupervised && status->state == KHO_DOMAIN_SHUTOFF)
        out_warning("kho-vm of machine '%s' does not answer, and its QEMU has ended; the next start ends it",
                    name);
    else if (status->unsupervised)
        out_warning("kho-vm of machine '%s' does not answer; this is what it wrote last", name);
    if (status->unsupervised || status->unanswered_ms == 0)
        return;
    g_autofree char *since = unanswered_since(status);
    out_warning("QEMU of machine '%s' (pid %" G_GINT64_FORMAT
                ") has not answered since %s; this is what was known then",
                name, status->pid, since);
}

json_t *
cli_domain_status_json(const KhoDomainStatus *status)
{
    json_t *object = json_object();
    json_object_set_new(object, "state", json_string(kho_domain_state_word(status->state)));
    json_object_set_new(object, "reason", json_string(status->reason));
    json_object_set_new(object, "since-ms", status->since_ms ? json_integer(status->since_ms) : json_null());
    json_object_set_new(object, "unanswered-ms", json_integer((json_int_t) status->unanswered_ms));
    json_object_set_new(object, "supervised", json_boolean(status->id >= 0 && !status->unsupervised));
    json_object_set_new(object, "id", status->id >= 0 ? json_integer(status->id) : json_null());
    json_object_set_new(object, "pid", status->pid ? json_integer(status->pid) : json_null());
    return object;
}
