/* Decides what a caged program (cage.h) may open, opens it in its place, and hands it the descriptor: the
 * image, what the caller's gate admits, and the system's libraries to be read. Names are read once and opened
 * here, so that the program cannot change them in between. One thread each, which runs as long as the
 * program. */
#ifndef KHO_FOREIGN_BROKER_H
#define KHO_FOREIGN_BROKER_H

#include <glib.h>

typedef struct Broker Broker;

typedef struct {
    const char *path; /* the image, as the program shall name it: absolute */
    int fd;           /* what that means; the caller's, open until the broker has ended */
    gboolean writable;
    /* Whether another file that the image names may be opened, for writing too where the image is writable.
     * Called in the broker's thread. NULL refuses all. */
    gboolean (*admit)(const char *path, gpointer data, GError **error);
    /* Whether what was opened may be used: FALSE closes it again. May be NULL. */
    gboolean (*claim)(int fd, const char *path, gboolean writes, gpointer data, GError **error);
    gpointer data;
} BrokerSpec;

/* Takes over @listener. @spec's strings are copied; its function is called until broker_seal. */
Broker *broker_start(int listener, const BrokerSpec *spec, GError **error);

/* From here on only what was admitted before may be opened again. */
void broker_seal(Broker *broker);

/* Why the first file that the image names was refused, if one was; the error is the caller's. */
GError *broker_take_refusal(Broker *broker);

/* After the program's end, or to refuse all that comes. */
void broker_free(Broker *broker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Broker, broker_free)

#endif
