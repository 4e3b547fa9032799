/* QMP on the wire: bytes to messages and messages to bytes. Pure: nothing is read, written or waited for
 * here; that is vm/client.h's (one who waits) and supervisor/'s (one who serves many). Spec: QEMU,
 * docs/interop/qmp-spec. */
#ifndef KHO_VM_QMP_H
#define KHO_VM_QMP_H

#include "base/json.h"

/* A message of QEMU's: query-qmp-schema's answer is 250 KiB, query-named-block-nodes of 1,000 layers 3 MiB.
 */
#define QMP_MAX_BYTES (16 << 20)
/* A message of a client: a live XML is 4 MiB at most, and twice that in JSON. */
#define QMP_CLIENT_MAX_BYTES (9 << 20)

typedef struct QmpDecoder QmpDecoder;

/* @max_bytes bounds one message, and so the memory held. */
QmpDecoder *qmp_decoder_new(gsize max_bytes);
void qmp_decoder_free(QmpDecoder *decoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpDecoder, qmp_decoder_free)

void qmp_decoder_feed(QmpDecoder *decoder, const void *bytes, gsize len);

/**
 * qmp_decoder_next:
 * @message: (out): the next whole message, a new reference; NULL when more bytes are needed
 *
 * Messages are objects, divided by nothing or by white space: the end of one is seen by its brackets, so that
 * a sender need not end it with a line feed.
 *
 * Returns: FALSE with KHO_ERROR_INVALID for what is no QMP: other bytes between messages, a message that is
 * not JSON or larger than the bound. The stream cannot be read further then.
 */
gboolean qmp_decoder_next(QmpDecoder *decoder, json_t **message, GError **error);

/* {"execute":@command,"arguments":@arguments,"id":@id}; (transfer full) of @arguments and @id, both may be
 * NULL. */
json_t *qmp_command(const char *command, json_t *arguments, json_t *id);
/* {"return":@value,"id":@id}; (transfer full) of @value (NULL: {}); @id is borrowed and may be NULL. */
json_t *qmp_return(json_t *value, json_t *id);
/* {"error":{"class","desc"},"id":@id}. "kho-code" holds the name of the KhoErrorCode beside QMP's own
 * members. */
json_t *qmp_error(const GError *why, json_t *id);
/* What QEMU says of a command that it does not know, also before qmp_capabilities. */
json_t *qmp_error_unknown(const char *desc, json_t *id);

/* Sets @error from the "error" member of a reply: kho-vm's own code where it names one, otherwise by QMP's
 * class. */
gboolean qmp_fail(const json_t *reply, const char *command, GError **error);

/* A message as bytes with its line feed; freed with g_free. */
char *qmp_line(const json_t *message, gsize *len);

#endif
