/* What a program may do that reads files of others' making: think, and use the descriptors that it was given.
 * Every open that it tries is put before a broker (broker.h); no network, no new processes, no other
 * program's memory, no names made or removed, no rights, bounded memory. What is opened for it is the
 * broker's business. */
#ifndef KHO_FOREIGN_CAGE_H
#define KHO_FOREIGN_CAGE_H

#include "base/spawn.h"

typedef struct {
    int inside, outside; /* a pair of sockets: the way of the descriptor that a broker listens at */
} Cage;

gboolean cage_init(Cage *cage, GError **error);

/* The confine of a SpawnSpec, whose confine_data is the cage. */
gboolean cage_enter(gpointer cage);

/* After the start: the descriptor at which the program's opens are told; it waits in each until it is
 * answered. KHO_ERROR_UNSUPPORTED where the kernel cannot do that. */
int cage_take_listener(Cage *cage, GError **error);

void cage_clear(Cage *cage);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Cage, cage_clear)

#endif
