/* Clients on qmp.sock: plain QMP for any number of them over the one connection to QEMU. Who is let in,
 * events to all, and the answer to those who wait for the end. One connection is client.c's, a command
 * command.c's. */
#ifndef KHO_SUPERVISOR_BROKER_H
#define KHO_SUPERVISOR_BROKER_H

#include "base/json.h"

struct Supervisor;
struct Client;
struct Wait;
typedef struct Broker Broker;

/* Listens on qmp.sock in the run folder. */
Broker *broker_new(struct Supervisor *s, GError **error);
/* From here on no command is run; what is open is still answered. For the end: the monitor, which answers, is
 * freed between this and broker_free. */
void broker_close(Broker *broker);
void broker_free(Broker *broker);

/* An event of QEMU's, for every client that has negotiated. */
void broker_event(Broker *broker, const json_t *message);

gboolean broker_is_closing(const Broker *broker);

/* Frees a client that was dropped. */
void broker_forget(Broker *broker, struct Client *client);

/* @wait is answered by broker_ended. */
void broker_await_end(Broker *broker, struct Wait *wait);

/* QEMU is silent, as @why says: whoever waits for what it knows is told so; who waits for what it does, waits
 * on. */
void broker_silent(Broker *broker, const GError *why);

/* Answers those who asked for kho-destroy: QEMU has ended (NULL), or it has not and @why. */
void broker_ended(Broker *broker, const GError *why);

#endif
