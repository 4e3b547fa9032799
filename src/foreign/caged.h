/* Starting a program in a cage, with the broker that opens its files. What it is for is the caller's
 * business. */
#ifndef KHO_FOREIGN_CAGED_H
#define KHO_FOREIGN_CAGED_H

#include "base/spawn.h"
#include "foreign/broker.h"

typedef struct {
    SpawnChild child;
    Broker *broker; /* NULL: nothing runs */
} Caged;

/* @argv[0] is a program of Debian's @package: what has its name on PATH and is not kho. It dies with this
 * process. KHO_ERROR_UNSUPPORTED where it is not installed. */
gboolean caged_start(Caged *caged, const SpawnSpec *spec, const char *package, const BrokerSpec *rules,
                     GError **error);

/* Kills what still runs. */
void caged_clear(Caged *caged);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Caged, caged_clear)

#endif
