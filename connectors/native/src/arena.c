/* Messages are copied out of librdkafka at once: its own are then freed while they are warm, and
 * what stays is a few large pieces of memory that are used again and again. */
#include "arena.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define POOL 8
#define POOLED_BYTES_MAX ((size_t)32 << 20) /* a batch of giants is freed, not kept */

static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;
static Arena *pool[POOL];
static int pooled;

static bool reserve(Buffer *buffer, size_t more) {
    if (more > SIZE_MAX / 4 - buffer->used)
        return false;
    size_t need = buffer->used + more, room = buffer->room ? buffer->room : 1 << 16;
    if (need <= buffer->room)
        return true;
    while (room < need)
        room *= 2;
    char *at = realloc(buffer->at, room);
    if (!at)
        return false;
    buffer->at = at;
    buffer->room = room;
    return true;
}

static size_t append(Buffer *buffer, const void *from, size_t size) { /* room was reserved */
    size_t at = buffer->used;
    if (size)
        memcpy(buffer->at + at, from, size);
    buffer->used = at + size;
    return at;
}

static void destroy(Arena *arena) {
    free(arena->topic);
    free(arena->bodies.at);
    free(arena->headers.at);
    free(arena->rows);
    free(arena->names);
    free(arena);
}

Arena *arena_take(const char *topic) {
    pthread_mutex_lock(&pool_mutex);
    Arena *arena = pooled ? pool[--pooled] : NULL;
    pthread_mutex_unlock(&pool_mutex);
    if (!arena && !(arena = calloc(1, sizeof *arena)))
        return NULL;
    free(arena->topic);
    arena->topic = strdup(topic);
    if (!arena->names)
        arena->names = calloc(NAMES_MAX, sizeof *arena->names);
    if (!arena->topic || !arena->names) {
        destroy(arena);
        return NULL;
    }
    arena->size = arena->bodies.used = arena->headers.used = arena->asked = 0;
    arena->name_count = 0; /* who filled it with odd names does so for one batch only */
    memset(arena->usual, 0, sizeof arena->usual);
    return arena;
}

void arena_give(Arena *arena) {
    if (!arena)
        return;
    pthread_mutex_lock(&pool_mutex);
    bool kept = pooled < POOL && arena->bodies.room + arena->headers.room <= POOLED_BYTES_MAX;
    if (kept)
        pool[pooled++] = arena;
    pthread_mutex_unlock(&pool_mutex);
    if (!kept)
        destroy(arena);
}

static bool part(Buffer *bodies, const void *from, size_t size, size_t *at, int32_t *size_out) {
    *at = bodies->used;
    *size_out = -1;
    if (!from)
        return true;
    if (size > INT32_MAX || !reserve(bodies, size))
        return false;
    append(bodies, from, size);
    *size_out = (int32_t)size;
    return true;
}

Row *arena_row(Arena *arena, const void *key, size_t key_size, const void *value, size_t value_size) {
    if (arena->size == arena->room) {
        size_t room = arena->room ? arena->room * 2 : 1024;
        Row *rows = room > SIZE_MAX / sizeof *rows ? NULL : realloc(arena->rows, room * sizeof *rows);
        if (!rows)
            return NULL;
        arena->rows = rows;
        arena->room = room;
    }
    Row *row = &arena->rows[arena->size];
    *row = (Row){.headers = arena->headers.used, .header_count = -1};
    if (!part(&arena->bodies, value, value_size, &row->value, &row->value_size) ||
        !part(&arena->bodies, key, key_size, &row->key, &row->key_size))
        return NULL;
    arena->size++;
    return row;
}

static bool is_name(const Name *kept, const char *name, size_t size) {
    return (size_t)kept->size == size && !memcmp(kept->text, name, size);
}

/* The number of a name, of a new one, too, while there is room; -1 for one that is not kept. */
static int number_of(Arena *arena, int position, const char *name, size_t size) {
    int usual = position < NAMES_MAX ? arena->usual[position] : 0, found = -1;
    if (usual < arena->name_count && is_name(&arena->names[usual], name, size))
        return usual;
    for (int n = 0; n < arena->name_count && found < 0; n++)
        if (is_name(&arena->names[n], name, size))
            found = n;
    if (found < 0 && arena->name_count < NAMES_MAX) {
        if (size > NAME_BYTES_MAX)
            return -1;
        found = arena->name_count++;
        memcpy(arena->names[found].text, name, size);
        arena->names[found].text[size] = 0;
        arena->names[found].size = (int32_t)size;
    }
    if (found >= 0 && position < NAMES_MAX)
        arena->usual[position] = (uint8_t)found;
    return found;
}

bool arena_add_header(Arena *arena, const char *name, size_t name_size, const void *value, size_t size) {
    Row *row = &arena->rows[arena->size - 1];
    int number = number_of(arena, row->header_count, name, name_size);
    size_t inside = number < 0 ? name_size + 1 : 0;
    if (!value)
        size = 0;
    if (name_size >= INT32_MAX || size > INT32_MAX)
        return false;
    int32_t told[2] = {number < 0 ? -1 - (int32_t)name_size : number, value ? (int32_t)size : -1};
    Buffer *headers = &arena->headers;
    if (headers->room - headers->used < sizeof told + inside + size && !reserve(headers, sizeof told + inside + size))
        return false;
    char *at = headers->at + headers->used;
    memcpy(at, told, sizeof told);
    at += sizeof told;
    if (inside) {
        memcpy(at, name, name_size);
        at[name_size] = 0;
    }
    if (size)
        memcpy(at + inside, value, size);
    headers->used += sizeof told + inside + size;
    row->header_count++;
    return true;
}

Added arena_add_wire(Arena *arena, Wire wire) {
    Row *row = &arena->rows[arena->size - 1];
    WireHeader header;
    row->header_count = 0;
    while (wire.left) {
        if (!wire_next(&wire, &header))
            break;
        /* A name ends at a 0, as it does for who is given it as text. */
        size_t size = strnlen(header.name, header.name_size);
        if (!arena_add_header(arena, header.name, size, header.value, header.value_size))
            return ADDED_NO_MEMORY;
    }
    if (!wire.left && wire.at == wire.end)
        return ADDED;
    arena->headers.used = row->headers;
    row->header_count = -1;
    return ADDED_NONE;
}

size_t header_at(const Arena *arena, size_t at, HeaderView *view) {
    int32_t told[2];
    const char *next = arena->headers.at + at;
    memcpy(told, next, sizeof told);
    next += sizeof told;
    view->name_number = told[0] < 0 ? -1 : told[0];
    view->name_size = told[0] < 0 ? -1 - told[0] : arena->names[told[0]].size;
    view->name = told[0] < 0 ? next : arena->names[told[0]].text;
    next += told[0] < 0 ? view->name_size + 1 : 0;
    view->value_size = told[1];
    view->value = told[1] < 0 ? NULL : next;
    return (size_t)(next - arena->headers.at) + (size_t)(told[1] < 0 ? 0 : told[1]);
}

bool arena_add(Arena *arena, const rd_kafka_message_t *message) {
    int kind;
    Row *row = arena_row(arena, message->key, message->key_len, message->payload, message->len);
    if (!row)
        return false;
    row->offset = message->offset;
    row->partition = message->partition;
    row->time_ms = kafka.message_timestamp(message, &kind);
    Wire wire;
    Added added = wire_of(message, &wire) ? arena_add_wire(arena, wire) : ADDED_NONE;
    if (added != ADDED_NONE)
        return added == ADDED;
    arena->asked++;
    rd_kafka_headers_t *headers;
    if (kafka.message_headers(message, &headers))
        return true; /* none, or unreadable: null, as the Python client has it */
    row->header_count = 0;
    const char *name;
    const void *value;
    size_t size;
    for (size_t n = 0; !kafka.header_get_all(headers, n, &name, &value, &size); n++)
        if (!arena_add_header(arena, name, strlen(name), value, size))
            return false;
    return true;
}
