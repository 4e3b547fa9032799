/* What every struct of the model has in common: where it stood in the text, and what was found in its element
 * that no row of the table knows. The table and its walk are in table.h; the XML itself is in base/xml.h. */
#ifndef KHO_MODEL_NODE_H
#define KHO_MODEL_NODE_H

#include <kho/error.h>

/* A number that the text did not give, and a size. */
#define MODEL_UNSET      G_MININT
#define MODEL_SIZE_UNSET G_MAXUINT64

/* Attributes of yes/no and on/off kind, which may also be absent. */
typedef enum {
    MODEL_SWITCH_UNSET,
    MODEL_SWITCH_ON, /* yes, on */
    MODEL_SWITCH_OFF /* no, off */
} ModelSwitch;

typedef struct ModelTable ModelTable;

/* First member of every struct that stands for an XML element. */
typedef struct {
    const ModelTable *table;
    GPtrArray *kept; /* ModelKept: unknown content, in place; NULL for none */
    guint line;      /* of the element in the text; 0 when made by kho */
} ModelNode;

#endif
