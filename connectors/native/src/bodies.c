/* Bodies by column, for those that are plainly right by the plan of their type.
 *
 * The plan is made from the event models (schemas/events/plan.py); nothing here knows a field. As
 * with tickets this file refuses nothing: escapes, letters beyond ASCII, exponents, repeated fields
 * and whatever else is unusual are suspects, and the decoder of the pure level judges them. What
 * passes must be what that decoder takes, with the same values; the tests compare. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT, CHOICE, INTEGER, REAL, TRUTH, ARRAY, OBJECT, OTHER, KINDS };
#define FIELDS_MAX 48
#define SLOTS_MAX 16
#define FIELD_BYTES_MAX 62
#define DEPTH_MAX 8
#define DIGITS_MAX 15 /* so many fit a double without loss, and an int64 with much to spare */

typedef struct {
    char *at;
    size_t size;
} Word;

typedef struct Model Model;
typedef struct Field {
    char name[FIELD_BYTES_MAX + 1]; /* and its closing quote */
    uint8_t name_size;       /* with that */
    uint8_t kind;
    bool nullable, above, below; /* the bounds themselves are out */
    int8_t slot;                 /* where its value is kept; -1: nowhere */
    int64_t low, high;           /* letters, entries, or values */
    double floor, ceiling;
    Word *words;
    size_t word_count;
    struct Field *item;
    Model *object;
} Field;

struct Model {
    Field fields[FIELDS_MAX];
    int count;
    uint64_t required, one_of; /* bits by place; of `one_of` exactly one is given and not null */
    uint8_t guess[FIELDS_MAX]; /* which field stood there last: most bodies of a type are alike */
};

typedef struct {
    PyObject_HEAD
    Model **models; /* NULL: every body of this type is a suspect */
    Py_ssize_t count;
    int slots, journey, subject; /* -1: no body has such a field */
} Bodies;

PyTypeObject *bodies_type;

/* --- the plan --------------------------------------------------------------------------------- */

static void free_model(Model *model);

static void free_field(Field *field) {
    for (size_t n = 0; n < field->word_count; n++)
        free(field->words[n].at);
    free(field->words);
    if (field->item)
        free_field(field->item);
    free(field->item);
    free_model(field->object);
}

static void free_model(Model *model) {
    for (int n = 0; model && n < model->count; n++)
        free_field(&model->fields[n]);
    free(model);
}

static bool take_words(Field *field, PyObject *words) {
    Py_ssize_t count = PyTuple_Size(words);
    if (count < 0 || !(field->words = calloc((size_t)count + 1, sizeof *field->words)))
        return count >= 0 && PyErr_NoMemory();
    for (Py_ssize_t n = 0; n < count; n++) {
        char *at;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(words, n), &at, &size))
            return false;
        Word *word = &field->words[n];
        if (!(word->at = malloc((size_t)size + 1)))
            return PyErr_NoMemory() != NULL;
        memcpy(word->at, at, (size_t)size);
        word->size = (size_t)size;
        field->word_count++;
    }
    return true;
}

static Model *model_of(PyObject *plan, int depth);

/* (kind, nullable, low, high, floor, ceiling, above, below, words, item, object) */
static bool take_type(Field *field, PyObject *type, int depth) {
    int kind, nullable, above, below;
    long long low, high;
    PyObject *words, *item, *object;
    if (!PyArg_ParseTuple(type, "ipLLddppO!OO", &kind, &nullable, &low, &high, &field->floor, &field->ceiling, &above,
                          &below, &PyTuple_Type, &words, &item, &object))
        return false;
    if (kind < 0 || kind >= KINDS || depth > DEPTH_MAX || (kind == ARRAY) != (item != Py_None) ||
        (kind == OBJECT) != (object != Py_None)) {
        PyErr_SetString(PyExc_ValueError, "a type that is none");
        return false;
    }
    field->kind = (uint8_t)kind;
    field->nullable = nullable != 0;
    field->above = above != 0;
    field->below = below != 0;
    field->low = low;
    field->high = high;
    field->slot = -1;
    if (!take_words(field, words))
        return false;
    if (item != Py_None) {
        if (!(field->item = calloc(1, sizeof *field->item)))
            return PyErr_NoMemory() != NULL;
        return take_type(field->item, item, depth + 1);
    }
    return object == Py_None || (field->object = model_of(object, depth + 1)) != NULL;
}

/* (name, required, one of several, slot, type) */
static bool take_field(Model *model, PyObject *plan, int depth) {
    const char *name;
    Py_ssize_t size;
    int required, one_of, slot;
    PyObject *type;
    if (!PyArg_ParseTuple(plan, "y#ppiO!", &name, &size, &required, &one_of, &slot, &PyTuple_Type, &type))
        return false;
    if (size < 1 || size >= FIELD_BYTES_MAX || model->count == FIELDS_MAX || slot < -1 || slot >= SLOTS_MAX || (slot >= 0 && depth)) {
        PyErr_SetString(PyExc_ValueError, "a field that is out of bounds");
        return false;
    }
    Field *field = &model->fields[model->count];
    uint64_t bit = (uint64_t)1 << model->count++;
    model->required |= required ? bit : 0;
    model->one_of |= one_of ? bit : 0;
    memcpy(field->name, name, (size_t)size);
    field->name[size] = '"';
    field->name_size = (uint8_t)(size + 1);
    if (!take_type(field, type, depth))
        return false;
    field->slot = (int8_t)slot;
    if (slot < 0 || field->kind == TEXT || field->kind == CHOICE || field->kind == INTEGER || field->kind == OTHER)
        return true;
    PyErr_SetString(PyExc_ValueError, "a column of a type that has none");
    return false;
}

static Model *model_of(PyObject *plan, int depth) {
    Py_ssize_t count = PyTuple_Size(plan);
    Model *model = count < 0 ? NULL : calloc(1, sizeof *model);
    if (!model)
        return count < 0 ? NULL : (Model *)PyErr_NoMemory();
    for (Py_ssize_t n = 0; n < count; n++)
        if (!take_field(model, PyTuple_GetItem(plan, n), depth)) {
            free_model(model);
            return NULL;
        }
    return model;
}

static PyObject *bodies_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)names;
    PyObject *plan, *models;
    int slots, journey, subject;
    if (!PyArg_ParseTuple(arguments, "O!", &PyTuple_Type, &plan) ||
        !PyArg_ParseTuple(plan, "O!iii", &PyTuple_Type, &models, &slots, &journey, &subject))
        return NULL;
    if (slots < 0 || slots > SLOTS_MAX || journey >= slots || subject >= slots) {
        PyErr_SetString(PyExc_ValueError, "a slot that is out of bounds");
        return NULL;
    }
    Bodies *self = (Bodies *)heap_new(type);
    Py_ssize_t count = PyTuple_Size(models);
    if (!self || !(self->models = calloc((size_t)count + 1, sizeof *self->models))) {
        Py_XDECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    self->slots = slots;
    self->journey = journey;
    self->subject = subject;
    for (; self->count < count; self->count++) {
        PyObject *one = PyTuple_GetItem(models, self->count);
        if (one != Py_None && !(self->models[self->count] = model_of(one, 0))) {
            Py_DECREF((PyObject *)self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static void bodies_dealloc(PyObject *object) {
    Bodies *self = (Bodies *)object;
    for (Py_ssize_t n = 0; n < self->count; n++)
        free_model(self->models[n]);
    free(self->models);
    heap_free(object);
}

/* --- one body --------------------------------------------------------------------------------- */

typedef struct {
    const char *at, *end, *start;
    Value *values;  /* of the body; NULL within an object of it */
    uint32_t given; /* slots that have a value */
} Cursor;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static char here(const Cursor *cursor) { return cursor->at < cursor->end ? *cursor->at : '\0'; }

static void blank(Cursor *cursor) {
    while (cursor->at < cursor->end &&
           (*cursor->at == ' ' || *cursor->at == '\n' || *cursor->at == '\r' || *cursor->at == '\t'))
        cursor->at++;
}

static bool take(Cursor *cursor, char c) {
    if (here(cursor) != c || cursor->at == cursor->end)
        return false;
    cursor->at++;
    return true;
}

static bool take_all(Cursor *cursor, const char *text, size_t size) {
    if ((size_t)(cursor->end - cursor->at) < size || memcmp(cursor->at, text, size))
        return false;
    cursor->at += size;
    return true;
}

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u
static uint64_t zeros(uint64_t word) { return (word - ONES) & ~word & HIGHS; }

/* The rest of a string behind its opening quote: printable ASCII without escapes, eight at a time. */
static bool take_string(Cursor *cursor, const char **text, size_t *size) {
    const char *at = cursor->at;
    *text = at;
    for (uint64_t word; cursor->end - at >= 8; at += 8) {
        memcpy(&word, at, 8);
        uint64_t stops = zeros(word ^ ONES * '"') | zeros(word ^ ONES * '\\') | (word & HIGHS) | ((word - ONES * 0x20) & ~word & HIGHS);
        if (stops)
            break;
    }
    while (at < cursor->end && *at != '"') {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7f || *at == '\\')
            return false;
        at++;
    }
    if (at == cursor->end)
        return false;
    *size = (size_t)(at - *text);
    cursor->at = at + 1;
    return true;
}

/* A number without exponent and of few digits. `scale` is how many of them stand behind the point. */
static bool take_number(Cursor *cursor, int64_t *digits, int *scale) {
    bool negative = take(cursor, '-');
    const char *start = cursor->at;
    int64_t found = 0;
    *scale = 0;
    while (is_digit(here(cursor)) && cursor->at - start <= DIGITS_MAX)
        found = found * 10 + (*cursor->at++ - '0');
    int count = (int)(cursor->at - start);
    if (!count || (*start == '0' && count > 1))
        return false;
    if (take(cursor, '.')) {
        while (is_digit(here(cursor)) && count + *scale <= DIGITS_MAX) {
            found = found * 10 + (*cursor->at++ - '0');
            ++*scale;
        }
        if (!*scale)
            return false;
    }
    *digits = negative ? -found : found;
    char next = here(cursor);
    return count + *scale <= DIGITS_MAX && next != '.' && next != 'e' && next != 'E' && !(negative && !found);
}

static bool skip_value(Cursor *cursor, int depth);

/* What stands between the brackets of an array or object that nobody reads. */
static bool skip_inside(Cursor *cursor, char close, int depth) {
    const char *text;
    size_t size;
    blank(cursor);
    if (take(cursor, close))
        return true;
    do {
        blank(cursor);
        if (close == '}') {
            if (!take(cursor, '"') || !take_string(cursor, &text, &size))
                return false;
            blank(cursor);
            if (!take(cursor, ':'))
                return false;
            blank(cursor);
        }
        if (!skip_value(cursor, depth + 1))
            return false;
        blank(cursor);
    } while (take(cursor, ','));
    return take(cursor, close);
}

static bool skip_value(Cursor *cursor, int depth) {
    const char *text;
    size_t size;
    int64_t digits;
    int scale;
    if (depth > DEPTH_MAX)
        return false;
    switch (here(cursor)) {
    case '"':
        cursor->at++;
        return take_string(cursor, &text, &size);
    case 't':
        return take_all(cursor, "true", 4);
    case 'f':
        return take_all(cursor, "false", 5);
    case 'n':
        return take_all(cursor, "null", 4);
    case '[':
        cursor->at++;
        return skip_inside(cursor, ']', depth);
    case '{':
        cursor->at++;
        return skip_inside(cursor, '}', depth);
    default:
        return take_number(cursor, &digits, &scale);
    }
}

static bool is_word(const Field *field, const char *text, size_t size) {
    for (size_t n = 0; n < field->word_count; n++)
        if (field->words[n].size == size && !memcmp(field->words[n].at, text, size))
            return true;
    return false;
}

static bool take_object(Cursor *cursor, Model *model, int depth);

static bool take_text(Cursor *cursor, const Field *field) {
    const char *text;
    size_t size;
    if (!take(cursor, '"') || !take_string(cursor, &text, &size))
        return false;
    if (field->kind == CHOICE ? !is_word(field, text, size) : (int64_t)size < field->low || (int64_t)size > field->high)
        return false;
    if (field->slot >= 0 && cursor->values) {
        cursor->values[field->slot].text.at = (uint32_t)(text - cursor->start);
        cursor->values[field->slot].text.size = (uint32_t)size;
    }
    return true;
}

static bool take_figure(Cursor *cursor, const Field *field) {
    static const double tens[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    int64_t digits;
    int scale;
    if (!take_number(cursor, &digits, &scale))
        return false;
    if (field->kind == REAL) { /* both are exact, so the quotient is the nearest double */
        double value = (double)digits / tens[scale];
        return !(value < field->floor || value > field->ceiling || (field->above && value <= field->floor) ||
                 (field->below && value >= field->ceiling));
    }
    if (scale || digits < field->low || digits > field->high)
        return false;
    if (field->slot >= 0 && cursor->values)
        cursor->values[field->slot].number = digits;
    return true;
}

static bool take_value(Cursor *cursor, const Field *field, int depth) {
    int64_t count = 0;
    switch (field->kind) {
    case TEXT:
    case CHOICE:
        return take_text(cursor, field);
    case INTEGER:
    case REAL:
        return take_figure(cursor, field);
    case TRUTH:
        return take_all(cursor, "true", 4) || take_all(cursor, "false", 5);
    case OBJECT: {
        Value *values = cursor->values;
        cursor->values = NULL;
        bool fine = take_object(cursor, field->object, depth + 1);
        cursor->values = values;
        return fine;
    }
    case ARRAY:
        if (!take(cursor, '['))
            return false;
        blank(cursor);
        if (take(cursor, ']'))
            return field->low <= 0;
        do {
            blank(cursor);
            if (field->item->nullable && here(cursor) == 'n' ? !take_all(cursor, "null", 4)
                                                             : !take_value(cursor, field->item, depth + 1))
                return false;
            count++;
            blank(cursor);
        } while (take(cursor, ','));
        return take(cursor, ']') && count >= field->low && count <= field->high;
    default:
        return false;
    }
}

/* The field whose name stands behind this quote; -1 for a stranger. The cursor moves over a name it knows. */
static int take_name(Cursor *cursor, Model *model, int position) {
    size_t left = (size_t)(cursor->end - cursor->at);
    int guess = position < FIELDS_MAX ? model->guess[position] : 0;
    for (int n = -1; n < model->count; n++) {
        int place = n < 0 ? guess : n;
        const Field *field = &model->fields[place];
        if (place < model->count && field->name_size <= left && !memcmp(field->name, cursor->at, field->name_size)) {
            if (n >= 0 && position < FIELDS_MAX)
                model->guess[position] = (uint8_t)place;
            cursor->at += field->name_size;
            return place;
        }
    }
    return -1;
}

/* One field with its value; `seen` and `full` (not null) get its bit. */
static bool take_pair(Cursor *cursor, Model *model, int position, int depth, uint64_t *seen, uint64_t *full) {
    const char *text;
    size_t size;
    if (!take(cursor, '"'))
        return false;
    int place = take_name(cursor, model, position);
    if (place < 0 && !take_string(cursor, &text, &size))
        return false;
    blank(cursor);
    if (!take(cursor, ':'))
        return false;
    blank(cursor);
    if (place < 0)
        return skip_value(cursor, depth);
    const Field *field = &model->fields[place];
    uint64_t bit = (uint64_t)1 << place;
    if (*seen & bit)
        return false;
    *seen |= bit;
    if (here(cursor) == 'n')
        return field->nullable && take_all(cursor, "null", 4);
    *full |= bit;
    if (field->slot >= 0 && cursor->values)
        cursor->given |= 1u << field->slot;
    return take_value(cursor, field, depth);
}

static bool take_object(Cursor *cursor, Model *model, int depth) {
    uint64_t seen = 0, full = 0;
    if (depth > DEPTH_MAX || !take(cursor, '{'))
        return false;
    blank(cursor);
    if (!take(cursor, '}')) {
        int position = 0;
        do {
            blank(cursor);
            if (!take_pair(cursor, model, position++, depth, &seen, &full))
                return false;
            blank(cursor);
        } while (take(cursor, ','));
        if (!take(cursor, '}'))
            return false;
    }
    uint64_t one = full & model->one_of;
    return (seen & model->required) == model->required && (!model->one_of || (one && !(one & (one - 1))));
}

/* --- a batch ---------------------------------------------------------------------------------- */

static bool same(Span span, const char *at, size_t size) {
    return span.size == (Py_ssize_t)size && !memcmp(span.at, at, size);
}

/* Whether the key is the subject, else the id, as it has to be. */
static bool has_its_key(const Found *found, const Arena *arena, size_t place) {
    Span subject = ticket_span(found, SUBJECTS, place);
    const Row *row = &arena->rows[place];
    return row->key_size >= 0 &&
           same(subject.size < 0 ? ticket_span(found, IDS, place) : subject, arena->bodies.at + row->key, (size_t)row->key_size);
}

/* Whether a field of the body that has one says what its ticket says. */
static bool agrees(const Found *found, const Cursor *cursor, int slot, int part, size_t place) {
    if (slot < 0 || !(cursor->given >> slot & 1))
        return true;
    const Value *value = &cursor->values[slot];
    return same(ticket_span(found, part, place), cursor->start + value->text.at, value->text.size);
}

static bool is_right(const Bodies *self, Found *found, const Arena *arena, size_t place, Model *model, long long bytes_max) {
    const Row *row = &arena->rows[place];
    if (!model || found->tickets[place].unknown < 0 || row->value_size < 0 || row->value_size > bytes_max ||
        !has_its_key(found, arena, place))
        return false;
    const char *start = arena->bodies.at + row->value;
    Cursor cursor = {start, start + row->value_size, start, found->values + place * (size_t)self->slots, 0};
    blank(&cursor);
    if (!take_object(&cursor, model, 0))
        return false;
    blank(&cursor);
    if (cursor.at != cursor.end || !agrees(found, &cursor, self->journey, CORRELATIONS, place) ||
        !agrees(found, &cursor, self->subject, SUBJECTS, place))
        return false;
    found->given[place] = cursor.given;
    return true;
}

PyDoc_STRVAR(scan_doc, "scan(found, keys, values, numbers, models, bytes_max) -> bytes or None\n\n"
                       "One byte for each message, 1 for a suspect. `numbers` are labels by message and `models` the\n"
                       "places of their types in the plan by label, both int64 and -1 for none. None for keys or values\n"
                       "that are not those of the batch in which the tickets were found, as they were read.");

static PyObject *bodies_scan(PyObject *object, PyObject *arguments) {
    const Bodies *self = (Bodies *)object;
    PyObject *table, *keys, *values;
    const char *numbers, *models;
    Py_ssize_t number_bytes, model_bytes;
    long long bytes_max;
    if (!PyArg_ParseTuple(arguments, "O!OOy#y#L", found_type, &table, &keys, &values, &numbers, &number_bytes, &models,
                          &model_bytes, &bytes_max))
        return NULL;
    Found *found = (Found *)table;
    if (!is_column_of(keys, found->batch, true) || !is_column_of(values, found->batch, false))
        return Py_NewRef(Py_None);
    const Arena *arena = ((Batch *)found->batch)->arena;
    if ((size_t)number_bytes != arena->size * sizeof(int64_t) || found->values) {
        PyErr_SetString(PyExc_ValueError, "expected a number for each message, and one scan");
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)arena->size);
    if (!result || !found_room(found, self->slots)) {
        Py_XDECREF(result);
        return NULL;
    }
    char *flags = PyBytes_AsString(result);
    for (size_t place = 0; place < arena->size; place++) {
        int64_t number, model = -1;
        memcpy(&number, numbers + place * sizeof number, sizeof number);
        if (number >= 0 && number < model_bytes / (Py_ssize_t)sizeof model)
            memcpy(&model, models + number * (int64_t)sizeof model, sizeof model);
        bool known = model >= 0 && model < self->count;
        flags[place] = !known || !is_right(self, found, arena, place, self->models[model], bytes_max);
    }
    return result;
}

static PyMethodDef bodies_methods[] = {
    {"scan", bodies_scan, METH_VARARGS, scan_doc},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot bodies_slots[] = {
    {Py_tp_doc, "Bodies(plan): reads bodies by column. The plan is (models, slots, journey's slot, subject's slot)."},
    {Py_tp_new, bodies_new},
    {Py_tp_dealloc, bodies_dealloc},
    {Py_tp_methods, bodies_methods},
    {0, NULL},
};
PyType_Spec bodies_spec = {"connectors.native._native.Bodies", sizeof(Bodies), 0, Py_TPFLAGS_DEFAULT, bodies_slots};
