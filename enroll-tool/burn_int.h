/* SPDX-License-Identifier: Apache-2.0 */
/* One burn under way: shared by burn.c and individual.c, nobody else. Owned by burn.c. */
#ifndef ENROLL_TOOL_BURN_INT_H
#define ENROLL_TOOL_BURN_INT_H

#include "base/cli.h"
#include "base/secret.h"
#include "client/identity.h"
#include "enroll-tool/quota.h"
#include "wire/json.h"

struct job {
    const struct cli_args *a;
    char *serial, *rid, *target;
    char *id_scope, *dps_host;
    uint16_t mqtts_port, https_port;
    struct buf ca_pem;
    enum attestation_kind kind;
    struct secret key;
    struct signer_key *private_key;
    struct buf key_text, chain_pem;
    struct json *tpm;     /* what the TPM tells of itself */
    const char *bound_as; /* NULL: the station is bound to no office; the ledger's */
    struct quota quota;   /* bound */
};

/* The unit's individual enrollment at the DPS of --env. is_again: the burn was interrupted before, perhaps behind this step. */
MUST_USE enum err burn_enroll_individual(const struct job *j, bool is_again, struct err_info *info);

#endif
