/* What --help and --version print. */
#ifndef KHO_QEMUIMG_HELP_H
#define KHO_QEMUIMG_HELP_H

void qimg_help_print(void);
void qimg_version_print(void);

#endif
