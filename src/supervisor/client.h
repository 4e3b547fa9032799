/* One connection on qmp.sock: bytes to messages and back, what it may leave unread, how much of it is read,
 * and what it still waits for. What its commands do is command.c's; who is let in, and who has to go,
 * broker.c's. */
#ifndef KHO_SUPERVISOR_CLIENT_H
#define KHO_SUPERVISOR_CLIENT_H

#include "vm/qmp.h"

#include <kho/error.h>
#include <sys/types.h>

struct Supervisor;
struct Broker;

typedef struct Client {
    struct Supervisor *s;
    struct Broker *broker;
    int fd;
    pid_t pid;
    QmpDecoder *decoder;
    GByteArray *unread;
    gboolean negotiated, running, doomed; /* doomed: freed when the current dispatch is over */
    gboolean reads;                       /* in_watch is for reading, not only for its end */
    guint open;                           /* commands that wait for an answer */
    gint64 heard_ms;                      /* when it last sent something */
    guint in_watch, out_watch, doom;
    GList *waits; /* of Wait: what QEMU, or QEMU's end, still has to answer */
} Client;

/* One command that is answered later. The client may be gone by then. */
typedef struct Wait {
    struct Supervisor *s;
    Client *client;                     /* NULL when it has left */
    json_t *id;                         /* as the client gave it */
    void (*done)(struct Supervisor *s); /* called when QEMU took the command; may be NULL */
    gboolean is_query;                  /* whether QEMU carries it out or not, nothing changes */
} Wait;

/* Takes @fd, a connected socket that does not block; nothing is read before client_go_on. */
Client *client_new(struct Supervisor *s, struct Broker *broker, int fd);
/* Of a Client. */
void client_free(gpointer client);

/* Ends the connection; the client may stand on the call stack, and is freed by the loop. @why goes to the
 * log; NULL: it left. */
void client_drop(Client *c, const char *why);

/* Runs what has been read, as far as it may have open, and reads on: at first, and after each answer. */
void client_go_on(Client *c);

/* (transfer full) of @message. */
void client_send(Client *c, json_t *message);
void client_send_line(Client *c, const char *line, gsize len);
void client_refuse(Client *c, json_t *id, KhoErrorCode code, const char *text);

/* A command that is not answered yet. What its client asked that has left is not begun any more
 * (monitor_forget with the Wait as data); what QEMU has begun is answered to nobody. */
Wait *wait_new(Client *c, json_t *id);
/* Answers and frees it; (transfer full) of @message, which carries the client's id. */
void wait_answer(Wait *w, json_t *message);

#endif
