/* What a client may say on qmp.sock: kho-vm's own commands, and QEMU's, which are passed on. */
#ifndef KHO_SUPERVISOR_COMMAND_H
#define KHO_SUPERVISOR_COMMAND_H

#include "supervisor/client.h"

/* Runs one message of @c's; it is answered now or later. */
void command_run(Client *c, const json_t *message);

#endif
