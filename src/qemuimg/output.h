/* What this face prints: text and JSON in QEMU's form on stdout, messages behind "qemu-img: " on stderr, the
 * progress of -p. Nothing else in the folder writes to them. */
#ifndef KHO_QEMUIMG_OUTPUT_H
#define KHO_QEMUIMG_OUTPUT_H

#include <glib.h>
#include <kho/job.h>

struct json_t;

void qimg_print(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* "qemu-img: MESSAGE" and a line break; line breaks within it stay. */
void qimg_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* "qemu-img: SUBJECT: MESSAGE"; @subject may be NULL. */
void qimg_error_about(const char *subject, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Without a line break at the end. */
void qimg_error_open(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* The same, and where help is. */
void qimg_usage_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* As it stands, with no word before it. */
void qimg_note(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* "qemu-img: warning: MESSAGE". */
void qimg_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Indented by four, keys in the order in which QEMU has them; drops the reference. */
void qimg_print_json(struct json_t *value);

/* Flushes stdout; FALSE where something printed did not arrive, which has been said. */
gboolean qimg_flush(void);

/* --output: FALSE where it is neither "human" nor "json", which has been said. NULL means human. */
gboolean qimg_wants_json(const char *output, gboolean *json);

/* The job of this run: cancelled by signals; SIGUSR1 asks it how far it is. With @show it prints "
 * (12.34/100%)" over and over, as -p asks; qimg_progress_end is to be called at the end then, and prints a
 * line break, after "(100.00/100%)" where the work was done. */
const KhoJob *qimg_job(gboolean show);
void qimg_progress_end(gboolean done);

/* Ends the process by the signal that cancelled it, as qemu-img does, which has no way to be told of it. */
void qimg_die_if_cancelled(void);

#endif
