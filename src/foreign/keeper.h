/* The thread that starts programs which must not outlive this process. The kernel ends such a program with
 * the thread that started it: this one lives as long as the process. */
#ifndef KHO_FOREIGN_KEEPER_H
#define KHO_FOREIGN_KEEPER_H

#include "base/spawn.h"

/* spawn_start, in that thread, with dies_with_caller. */
gboolean keeper_spawn(const SpawnSpec *spec, SpawnChild *child, GError **error);

#endif
