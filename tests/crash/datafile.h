/* Sweeps over a disk whose data lies in a file of its own: two stores, each with flushes of its own, so that
 * what is durable in one need not be in the other. */
#ifndef KHO_TESTS_DATAFILE_H
#define KHO_TESTS_DATAFILE_H

#include "crash/replay.h"

/* Random operations on disks of several shapes, recorded and replayed; what a raw data file holds is judged
 * by itself, too. */
void sweep_data_file(const CrashOptions *options, CrashReport *report);

#endif
