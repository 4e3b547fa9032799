#include "qemuimg/verbs.h"

#define QIMG_VERB(verb) extern const QimgVerb qimg_verb_##verb;
#include "qemuimg/verbs.def"
#undef QIMG_VERB

const QimgVerb *const qimg_verbs[] = {
#define QIMG_VERB(verb) &qimg_verb_##verb,
#include "qemuimg/verbs.def"
#undef QIMG_VERB
};
const gsize qimg_n_verbs = G_N_ELEMENTS(qimg_verbs);
