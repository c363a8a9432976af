/* Tickets by column, for the messages whose tickets are plainly right.
 *
 * This file refuses nothing. Whatever it does not recognise at once is a suspect, and the pure
 * reader judges it: so both levels give the same verdicts, whatever is in the headers. The forms
 * below must therefore never accept more than schemas/ticket_reader.py does; the tests compare. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

enum {
    SPECVERSION, SOURCE, TYPE, CONTENT, PURPOSE, CLASSIFICATION, CATEGORY, POLICY, REGULATION, SCHEMA, LABEL_PARTS,
    ID = LABEL_PARTS, TIME, CORRELATION, SUBJECT, HOPS, CAUSATION, RECORDED, EXPIRY, MAC, TRACEPARENT, TRACESTATE,
    ATTRIBUTES,
    UNKNOWN = ATTRIBUTES
};

static const struct {
    const char *name;
    uint8_t size, attribute;
} KNOWN[] = {
#define NAME(text, attribute) {text, sizeof text - 1, attribute}
    NAME("ce_specversion", SPECVERSION), NAME("ce_source", SOURCE), NAME("ce_type", TYPE),
    NAME("content-type", CONTENT), NAME("ce_datapurpose", PURPOSE), NAME("ce_dataclassification", CLASSIFICATION),
    NAME("ce_datacategory", CATEGORY), NAME("ce_datapolicy", POLICY), NAME("ce_dataregulation", REGULATION),
    NAME("ce_dataschema", SCHEMA), NAME("ce_id", ID), NAME("ce_time", TIME), NAME("ce_correlationid", CORRELATION),
    NAME("ce_subject", SUBJECT), NAME("ce_datahops", HOPS), NAME("ce_causationid", CAUSATION),
    NAME("ce_recordedtime", RECORDED), NAME("ce_expirytime", EXPIRY), NAME("ce_ticketmac", MAC),
    NAME("traceparent", TRACEPARENT), NAME("tracestate", TRACESTATE),
    NAME("purpose", PURPOSE), NAME("classification", CLASSIFICATION),
#undef NAME
};
#define KNOWN_COUNT (sizeof KNOWN / sizeof *KNOWN)
#define REQUIRED \
    (1u << SPECVERSION | 1u << SOURCE | 1u << TYPE | 1u << CONTENT | 1u << PURPOSE | 1u << CLASSIFICATION | 1u << ID | \
     1u << TIME | 1u << CORRELATION)

#define TICKET_BYTES_MAX 1024
#define HEADERS_BYTES_MAX 16384
#define HOPS_BYTES_MAX 256
#define LABELS_MAX 4096

typedef struct {
    const char *at;
    int32_t size; /* -1: absent */
} Part;

typedef struct {
    Part parts[ATTRIBUTES];
    int unknown; /* how many headers are none of ours */
} View;

typedef struct {
    uint64_t hash;
    char *key; /* the label's parts, each with its size before it */
    size_t size;
    int32_t local; /* its number in the batch that is being scanned, or -1 */
} LabelKey;

typedef struct {
    PyObject_HEAD
    LabelKey *labels; /* by number */
    uint32_t count;
    uint16_t slots[LABELS_MAX * 2]; /* number + 1 */
    uint8_t attributes[NAMES_MAX];  /* of the names of the batch that is being scanned */
} Scanner;

PyTypeObject *scanner_type;

/* --- forms ------------------------------------------------------------------------------------ */

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Characters by set: 1 of identifiers, 2 of names, 4 of traces. */
static const uint8_t *character_sets(void) {
    static uint8_t sets[256];
    if (!sets['a']) /* under the interpreter's lock; every writer writes the same */
        for (int c = 0; c < 256; c++) {
            char ch = (char)c;
            bool word = is_upper(ch) || is_lower(ch) || is_digit(ch) || ch == '_' || ch == '-';
            bool trace = is_digit(ch) || ch == '-' || (ch >= 'a' && ch <= 'f');
            sets[c] = (uint8_t)((word ? 3 : 0) | (ch == '.' || ch == ':' ? 2 : 0) | (trace ? 4 : 0));
        }
    return sets;
}

static bool all_of(const uint8_t *sets, uint8_t set, Part part, int least, int most) {
    if (part.size < least || part.size > most)
        return false;
    uint8_t all = set;
    for (int32_t n = 0; n < part.size; n++)
        all &= sets[(unsigned char)part.at[n]];
    return all;
}

static bool number(const char *at, int digits, int *value) {
    *value = 0;
    for (int n = 0; n < digits; n++) {
        if (!is_digit(at[n]))
            return false;
        *value = *value * 10 + (at[n] - '0');
    }
    return true;
}

/* 2026-01-05T10:00:00.250Z and nothing else; milliseconds since 1970, -1 for what is not that. */
static int64_t time_of(Part part) {
    static const int8_t days_of[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *at = part.at;
    int year, month, day, hour, minute, second, ms;
    if (part.size != 24 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':' ||
        at[19] != '.' || at[23] != 'Z')
        return -1;
    if (!number(at, 4, &year) || !number(at + 5, 2, &month) || !number(at + 8, 2, &day) ||
        !number(at + 11, 2, &hour) || !number(at + 14, 2, &minute) || !number(at + 17, 2, &second) ||
        !number(at + 20, 3, &ms))
        return -1;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59)
        return -1;
    bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
    if (day > days_of[month - 1] + (leap && month == 2))
        return -1;
    int before = year - 1; /* whole years since the year 1, then this year's months */
    int64_t days = (int64_t)before * 365 + before / 4 - before / 100 + before / 400 - 719162;
    for (int m = 1; m < month; m++)
        days += days_of[m - 1];
    days += (leap && month > 2) + day - 1;
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms;
}

static bool is_trace(const uint8_t *sets, Part part) {
    if (!all_of(sets, 4, part, 55, 55) || memcmp(part.at, "00-", 3) || part.at[35] != '-' || part.at[52] != '-')
        return false;
    return !memchr(part.at + 3, '-', 32) && !memchr(part.at + 36, '-', 16) && !memchr(part.at + 53, '-', 2);
}

/* One hop: two letters of a stage, a node, a delta, acts. `gate` is the stage with its node. */
static bool is_hop(const char *at, int size, int *gate) {
    static const char stages[] = "in va en sc tr ro de or dl ag si rp ex ";
    if (size < 6 || at[2] != '.')
        return false;
    const char *stage = stages;
    while (*stage && memcmp(stage, at, 2))
        stage += 3;
    if (!*stage)
        return false;
    int n = 3;
    while (n < size && (is_lower(at[n]) || is_digit(at[n]) || at[n] == '_' || at[n] == '-'))
        n++;
    *gate = n;
    if (n == 3 || n > 19 || n == size || at[n] != '.')
        return false;
    int start = ++n;
    while (n < size && (is_digit(at[n]) || is_upper(at[n])))
        n++;
    if (n == start || n - start > 11 || size - n > 9)
        return false;
    for (; n < size; n++)
        if (!at[n] || !strchr("pmdteulqr", at[n]))
            return false;
    return true;
}

static bool is_history(Part part) {
    struct {
        const char *at;
        int size;
    } been[HOPS_BYTES_MAX / 6 + 1];
    int count = 0;
    if (part.size < 1 || part.size > HOPS_BYTES_MAX)
        return false;
    const char *at = part.at, *end = part.at + part.size;
    while (at <= end) {
        const char *next = memchr(at, '>', (size_t)(end - at));
        int size = (int)((next ? next : end) - at), gate;
        if (size && at[0] == '~') {
            if (size < 2 || size > 7 || at[1] == '0')
                return false;
            for (int n = 1; n < size; n++)
                if (!is_digit(at[n]))
                    return false;
        } else {
            if (!is_hop(at, size, &gate))
                return false;
            if (!memcmp(at, "rp", 2))
                count = 0;
            for (int n = 0; n < count; n++)
                if (been[n].size == gate && !memcmp(been[n].at, at, (size_t)gate))
                    return false;
            been[count].at = at;
            been[count++].size = gate;
        }
        at += size + 1;
    }
    return true;
}

/* --- one message ------------------------------------------------------------------------------ */

static bool is_ascii(const char *at, int32_t size) {
    for (int32_t n = 0; n < size; n++)
        if ((unsigned char)at[n] > 127)
            return false;
    return true;
}

static uint8_t attribute_of(const char *name, int32_t size) {
    for (size_t n = 0; n < KNOWN_COUNT; n++)
        if (KNOWN[n].size == size && !memcmp(KNOWN[n].name, name, KNOWN[n].size))
            return KNOWN[n].attribute;
    return UNKNOWN;
}

/* Where each attribute stands; false for a message to be judged by the pure reader. */
static bool find_parts(const Scanner *self, const Arena *arena, const Row *row, View *found) {
    static const uint8_t name_sizes[ATTRIBUTES] = {14, 9, 7, 12, 14, 21, 15, 13, 17, 13, 5,
                                                   7, 16, 10, 11, 14, 15, 13, 12, 11, 10};
    uint32_t seen = 0;
    size_t at = row->headers, ticket = 0, others = 0;
    for (int n = 0; n < ATTRIBUTES; n++)
        found->parts[n] = (Part){NULL, -1};
    found->unknown = 0;
    for (int n = 0; n < row->header_count; n++) {
        HeaderView view;
        at = header_at(arena, at, &view);
        /* A name that is not kept may be one of ours all the same. */
        int attribute = view.name_number < 0 ? attribute_of(view.name, view.name_size) : self->attributes[view.name_number];
        size_t size = view.value ? (size_t)view.value_size : 0;
        others += (size_t)view.name_size; /* the limit on everything counts names as they stand */
        if (attribute == UNKNOWN) {
            if (!is_ascii(view.name, view.name_size))
                return false;
            found->unknown++;
            others += size;
            continue;
        }
        if (seen & 1u << attribute || !view.value)
            return false;
        seen |= 1u << attribute;
        ticket += name_sizes[attribute] + size;
        found->parts[attribute] = (Part){view.value, view.value_size};
    }
    return (seen & REQUIRED) == REQUIRED && ticket <= TICKET_BYTES_MAX && ticket + others <= HEADERS_BYTES_MAX;
}

static bool is_plain(const uint8_t *sets, const View *found, int64_t *times) {
    const Part *parts = found->parts;
    if (!all_of(sets, 1, parts[ID], 8, 64) || !all_of(sets, 2, parts[CORRELATION], 1, 64))
        return false;
    if ((parts[SUBJECT].size >= 0 && !all_of(sets, 2, parts[SUBJECT], 1, 64)) ||
        (parts[CAUSATION].size >= 0 && !all_of(sets, 2, parts[CAUSATION], 1, 64)))
        return false;
    static const int of[] = {TIME, RECORDED, EXPIRY};
    for (int n = 0; n < 3; n++) {
        times[n] = parts[of[n]].size < 0 ? -1 : time_of(parts[of[n]]);
        if (times[n] < 0 && parts[of[n]].size >= 0)
            return false;
    }
    return parts[HOPS].size < 0 || is_history(parts[HOPS]);
}

/* --- labels ----------------------------------------------------------------------------------- */

static void forget_labels(Scanner *self) {
    while (self->count)
        free(self->labels[--self->count].key);
    memset(self->slots, 0, sizeof self->slots);
}

/* The number of a label, a new one for one not seen before; -1 when there is no room, -2 no memory. */
static int label_of(Scanner *self, const View *found) {
    char key[TICKET_BYTES_MAX + LABEL_PARTS * sizeof(int32_t)]; /* the ticket's size was checked */
    size_t size = 0;
    for (int n = 0; n < LABEL_PARTS; n++) {
        const Part *part = &found->parts[n];
        memcpy(key + size, &part->size, sizeof part->size);
        size += sizeof part->size;
        if (part->size > 0)
            memcpy(key + size, part->at, (size_t)part->size);
        size += part->size > 0 ? (size_t)part->size : 0;
    }
    uint64_t hash = 0x9E3779B97F4A7C15u ^ size, word;
    for (size_t n = 0; n < size; n += 8) {
        word = 0;
        memcpy(&word, key + n, size - n < 8 ? size - n : 8);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    /* Chosen collisions would cost time only, and of at most LABELS_MAX labels. */
    size_t slot = hash % (LABELS_MAX * 2);
    for (; self->slots[slot]; slot = (slot + 1) % (LABELS_MAX * 2)) {
        const LabelKey *label = &self->labels[self->slots[slot] - 1];
        if (label->hash == hash && label->size == size && !memcmp(label->key, key, size))
            return self->slots[slot] - 1;
    }
    if (self->count == LABELS_MAX)
        return -1;
    char *kept = malloc(size);
    if (!kept)
        return -2;
    memcpy(kept, key, size);
    self->labels[self->count] = (LabelKey){hash, kept, size, -1};
    self->slots[slot] = (uint16_t)++self->count;
    return (int)self->count - 1;
}

static PyObject *label_parts(const LabelKey *label) {
    PyObject *tuple = PyTuple_New(LABEL_PARTS);
    const char *at = label->key;
    for (int n = 0; tuple && n < LABEL_PARTS; n++) {
        int32_t size;
        memcpy(&size, at, sizeof size);
        at += sizeof size;
        PyObject *part = size < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(at, size);
        if (!part || PyTuple_SetItem(tuple, n, part))
            Py_CLEAR(tuple);
        at += size > 0 ? size : 0;
    }
    return tuple;
}

/* --- a batch ---------------------------------------------------------------------------------- */

enum { NUMBERS, TIMES, RECORDEDS, EXPIRIES, NAMED, ARRAYS };

typedef struct {
    PyObject *arrays[ARRAYS], *used, *fresh, *suspects;
    int64_t *numbers[ARRAYS];
    Found *found;
} Columns;

/* The headers that are none of ours, verbatim. */
PyObject *rest_of(const Arena *arena, size_t place, int32_t unknown) {
    PyObject *all = header_list(arena, place), *rest = all ? PyTuple_New(unknown) : NULL;
    size_t at = arena->rows[place].headers;
    for (Py_ssize_t n = 0, kept = 0; rest && n < arena->rows[place].header_count; n++) {
        HeaderView view;
        at = header_at(arena, at, &view);
        if (attribute_of(view.name, view.name_size) == UNKNOWN && PyTuple_SetItem(rest, kept++, Py_NewRef(PyList_GetItem(all, n))))
            Py_CLEAR(rest);
    }
    Py_XDECREF(all);
    return rest;
}

/* Keep where the parts stand; false where that is too far behind for a short number. */
static bool keep_places(TicketPlaces *places, const char *first, const View *view) {
    static const uint8_t attributes[RESTS] = {ID, CORRELATION, SUBJECT, CAUSATION, HOPS, TRACEPARENT, TRACESTATE, MAC};
    const Part *parts = view->parts;
    bool traced = parts[TRACEPARENT].size >= 0 && is_trace(character_sets(), parts[TRACEPARENT]);
    for (int n = 0; n < RESTS; n++) {
        const Part *part = &parts[attributes[n]];
        places->parts[n] = (Place){0, NOWHERE};
        if (part->size < 0 || (!traced && (n == TRACEPARENTS || n == TRACESTATES)))
            continue;
        if (part->at - first >= NOWHERE || part->size >= NOWHERE)
            return false;
        places->parts[n] = (Place){(uint16_t)(part->at - first), (uint16_t)part->size};
    }
    places->unknown = view->unknown;
    return true;
}

static bool leave(Columns *columns, size_t place) { /* a suspect: the pure reader puts it */
    PyObject *number = PyLong_FromSize_t(place);
    bool fine = number && !PyList_Append(columns->suspects, number);
    Py_XDECREF(number);
    return fine;
}

static bool append_new(PyObject *list, PyObject *item) {
    bool fine = item && !PyList_Append(list, item);
    Py_XDECREF(item);
    return fine;
}

/* The number of a message's label; -1 for a suspect, -2 with an exception. */
static int scan_one(Scanner *self, const Arena *arena, const Row *row, Columns *columns, TicketPlaces *places,
                    int64_t *times) {
    View found;
    places->unknown = -1;
    if (row->header_count <= 0 || !find_parts(self, arena, row, &found) || !is_plain(character_sets(), &found, times) ||
        !keep_places(places, arena->headers.at + row->headers, &found))
        return -1;
    uint32_t known = self->count;
    int label = label_of(self, &found);
    if (label == -2)
        PyErr_NoMemory();
    else if (self->count > known && !append_new(columns->fresh, label_parts(&self->labels[label])))
        label = -2;
    if (label < 0)
        places->unknown = -1;
    return label;
}

static bool scan_all(Scanner *self, const Arena *arena, Columns *columns) {
    int32_t locals = 0;
    for (size_t place = 0; place < arena->size; place++) {
        TicketPlaces *places = &columns->found->tickets[place];
        int64_t times[3] = {-1, -1, -1};
        int label = scan_one(self, arena, &arena->rows[place], columns, places, times);
        if (label == -2)
            return false;
        for (int n = 0; n < 3; n++)
            columns->numbers[TIMES + n][place] = label < 0 ? -1 : times[n];
        columns->numbers[NAMED][place] = label >= 0 && places->parts[SUBJECTS].size != NOWHERE;
        columns->numbers[NUMBERS][place] = -1;
        if (label < 0) {
            if (!leave(columns, place))
                return false;
            continue;
        }
        LabelKey *key = &self->labels[label];
        if (key->local < 0) {
            key->local = locals++;
            if (!append_new(columns->used, PyLong_FromLong(label)))
                return false;
        }
        columns->numbers[NUMBERS][place] = key->local;
    }
    return true;
}

static bool make_columns(Columns *columns, PyObject *batch, size_t size) {
    bool fine = (columns->used = PyList_New(0)) && (columns->fresh = PyList_New(0)) &&
                (columns->suspects = PyList_New(0)) && (columns->found = found_new(batch));
    for (int n = 0; fine && n < ARRAYS; n++) {
        columns->arrays[n] = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(size * sizeof(int64_t)));
        fine = columns->arrays[n] != NULL;
        if (fine)
            columns->numbers[n] = (int64_t *)(void *)PyByteArray_AsString(columns->arrays[n]);
    }
    return fine;
}

PyDoc_STRVAR(scan_doc,
             "scan(batch) -> (labels, fresh, again, suspects, arrays, found)\n\n"
             "`labels` are the numbers of the labels in this batch, `fresh` the parts of those that are new; with\n"
             "`again`, numbers begin anew. `suspects` are the places that the pure reader has to judge. `found` makes\n"
             "the columns of texts.");

static PyObject *scanner_scan(PyObject *object, PyObject *batch) {
    Scanner *self = (Scanner *)object;
    if (!PyObject_TypeCheck(batch, batch_type)) {
        PyErr_SetString(PyExc_TypeError, "expected a batch");
        return NULL;
    }
    const Arena *arena = ((Batch *)batch)->arena;
    bool again = self->count == LABELS_MAX || !self->count; /* a full cache is emptied, as everywhere */
    if (again)
        forget_labels(self);
    for (uint32_t n = 0; n < self->count; n++)
        self->labels[n].local = -1;
    for (int n = 0; n < arena->name_count; n++)
        self->attributes[n] = attribute_of(arena->names[n].text, arena->names[n].size);
    Columns columns = {.used = NULL};
    bool fine = make_columns(&columns, batch, arena->size) && scan_all(self, arena, &columns);
    PyObject *arrays = fine ? PyTuple_New(ARRAYS) : NULL;
    for (int n = 0; arrays && n < ARRAYS; n++)
        PyTuple_SetItem(arrays, n, Py_NewRef(columns.arrays[n]));
    PyObject *result = arrays ? Py_BuildValue("(OOOOOO)", columns.used, columns.fresh, again ? Py_True : Py_False,
                                              columns.suspects, arrays, columns.found)
                              : NULL;
    Py_XDECREF(arrays);
    for (int n = 0; n < ARRAYS; n++)
        Py_XDECREF(columns.arrays[n]);
    Py_XDECREF(columns.used);
    Py_XDECREF(columns.fresh);
    Py_XDECREF(columns.suspects);
    Py_XDECREF((PyObject *)columns.found);
    if (!result) /* labels that Python was not told of must not be known here */
        forget_labels(self);
    return result;
}

static PyObject *scanner_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)arguments, (void)names;
    Scanner *self = (Scanner *)heap_new(type);
    if (self && !(self->labels = calloc(LABELS_MAX, sizeof *self->labels))) {
        Py_CLEAR(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void scanner_dealloc(PyObject *object) {
    Scanner *self = (Scanner *)object;
    forget_labels(self);
    free(self->labels);
    heap_free(object);
}

static PyMethodDef scanner_methods[] = {
    {"scan", scanner_scan, METH_O, scan_doc},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot scanner_slots[] = {
    {Py_tp_doc, "Reads tickets by column; remembers labels from batch to batch."},
    {Py_tp_new, scanner_new},
    {Py_tp_dealloc, scanner_dealloc},
    {Py_tp_methods, scanner_methods},
    {0, NULL},
};
PyType_Spec scanner_spec = {"connectors.native._native.Scanner", sizeof(Scanner), 0, Py_TPFLAGS_DEFAULT, scanner_slots};
