/* Clients on qmp.sock: plain QMP for any number of them over the one connection to QEMU, and kho-vm's own
 * commands. What the commands do to the machine is guest.c's and death.c's. */
#ifndef KHO_SUPERVISOR_BROKER_H
#define KHO_SUPERVISOR_BROKER_H

#include "base/json.h"

struct Supervisor;
typedef struct Broker Broker;

/* Listens on qmp.sock in the run folder. */
Broker *broker_new(struct Supervisor *s, GError **error);
/* From here on no command is run; what is open is still answered. For the end: the monitor, which answers, is
 * freed between this and broker_free. */
void broker_close(Broker *broker);
void broker_free(Broker *broker);

/* An event of QEMU's, for every client that has negotiated. */
void broker_event(Broker *broker, const json_t *message);

/* Answers those who asked for kho-destroy: QEMU has ended (NULL), or it has not and @why. */
void broker_ended(Broker *broker, const GError *why);

#endif
