/* Progress of long work on a terminal, and the flag that Ctrl-C and SIGTERM set. */
#ifndef KHO_CLI_PROGRESS_H
#define KHO_CLI_PROGRESS_H

#include <kho/job.h>

/* Catches SIGINT, SIGTERM, SIGHUP and SIGQUIT: from now on they only set the job's flag, however often they
 * come; SIGPIPE is ignored. Shows progress on stderr when @show, stderr is a terminal, and the work has taken
 * a second. The job lives as long as the process. */
const KhoJob *progress_start(gboolean show);

/* The same job, but shown as "WORD: [ 50 %]" from the first report on, wherever stderr goes. */
const KhoJob *progress_percent(const char *word);

/* Takes the line away, where one is shown; anything printed comes after it. */
void progress_clear(void);

#endif
