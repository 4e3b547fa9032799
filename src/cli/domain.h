/* What the verbs on machines share: finding the machine that an argument names. */
#ifndef KHO_CLI_DOMAIN_H
#define KHO_CLI_DOMAIN_H

#include "cli/host.h"

#include <kho/domain.h>

/* The row of the argument that names a machine; its struct has it as `domain`. */
#define CLI_DOMAIN_ARG(Args)                                                                                 \
    {                                                                                                        \
        CLI_STR, "DOMAIN", offsetof(Args, domain), NULL, "name, uuid or id of the machine",                  \
            .object = CLI_MACHINE                                                                            \
    }

/* Arguments of the verbs that take nothing else. */
typedef struct DomainArgs {
    const char *domain;
} DomainArgs;
extern const CliArg domain_only_args[];

/* A host, and one machine of it. */
typedef struct CliDomain {
    KhoHost *host;
    KhoDomain *domain;
    const char *name; /* the machine's, whatever was typed */
} CliDomain;

gboolean cli_domain_open(const CliRun *cli, const char *which, CliDomain *out, GError **error);
void cli_domain_clear(CliDomain *opened);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CliDomain, cli_domain_clear)

/* "running", or "running (no answer since 2026-01-02 03:04:05)". */
char *cli_domain_state_text(const KhoDomainStatus *status);
/* Says on stderr since when QEMU has not answered, where it has not. */
void cli_domain_warn_unanswered(const char *name, const KhoDomainStatus *status);

/* {"state", "reason", "since-ms", "unanswered-ms", "supervised", "id", "pid"} */
struct json_t *cli_domain_status_json(const KhoDomainStatus *status);

#endif
