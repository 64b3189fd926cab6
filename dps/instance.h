/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes an instance itself: its id scope and the key of its continuation tokens, made once and kept.
 * Threads     main, before the workers start; blocks on the writer.
 */
#ifndef DPS_INSTANCE_H
#define DPS_INSTANCE_H

#include "dps/dps.h"

/* Reads both into d; makes what is not there yet. */
MUST_USE enum err instance_load(struct dps *d, struct err_info *info);

#endif
