/* What the verbs on snapshots share: their arguments, and which snapshot is meant. */
#ifndef KHO_CLI_SNAPSHOT_H
#define KHO_CLI_SNAPSHOT_H

#include "cli/domain.h"

#include <kho/snapshot.h>

/* The row of the argument that names a snapshot; its struct has it as `snapshot`. */
#define CLI_SNAPSHOT_ARG(Args)                                                                               \
    {                                                                                                        \
        CLI_STR, "SNAPSHOTNAME", offsetof(Args, snapshot), CLI_OPTIONAL, "name of the snapshot",             \
            .object = CLI_SNAPSHOT                                                                           \
    }

#define CLI_CURRENT_ARG(Args)                                                                                \
    {                                                                                                        \
        CLI_FLAG, "--current", offsetof(Args, current), "no", "the machine's current snapshot"               \
    }

/* Arguments of the verbs that take nothing else. */
typedef struct SnapshotArgs {
    const char *domain, *snapshot;
    gboolean current;
} SnapshotArgs;
extern const CliArg snapshot_only_args[];

/* The snapshot that is meant: @given, or with @current the machine's current one; one of both must be. */
char *cli_snapshot_name(KhoDomain *domain, const char *given, gboolean current, GError **error);

/* One as JSON, and its state as a word for people: "deleting" where a delete was interrupted. */
struct json_t *cli_snapshot_json(const KhoSnapshot *snapshot);
const char *cli_snapshot_state(const KhoSnapshot *snapshot);

#endif
