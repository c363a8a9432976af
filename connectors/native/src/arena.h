/* One batch of messages of one topic, in two growing buffers and one array of rows. */
#ifndef AIRSIDE_ARENA_H
#define AIRSIDE_ARENA_H

#include "kafka.h"
#include "wire.h"

#include <stdbool.h>

typedef struct {
    char *at;
    size_t used, room;
} Buffer;

typedef struct {
    int64_t offset, time_ms;
    size_t value, key;     /* places in `bodies` */
    size_t headers;        /* the place in `headers` of the first one */
    int32_t value_size;    /* -1: null */
    int32_t key_size;      /* -1: null */
    int32_t header_count;  /* -1: the message has no list of headers */
    int32_t partition;
} Row;

/* Header names recur: each is kept once, and a header has its number. */
#define NAMES_MAX 64
#define NAME_BYTES_MAX 255
typedef struct {
    char text[NAME_BYTES_MAX + 1];
    int32_t size;
} Name;

typedef struct {
    char *topic;
    const void *topic_handle; /* only to compare with, during one fetch */
    Buffer bodies, headers;
    Row *rows;
    size_t size, room;
    size_t asked; /* messages whose headers librdkafka was asked for */
    Name *names; /* NAMES_MAX of them */
    int name_count;
    uint8_t usual[NAMES_MAX]; /* which name stood at this position last */
} Arena;

/* A header in the buffer: the number of its name and the size of its value, then the value. Where
 * names are many or long, the size of the name below 0 in place of a number, and the name and a 0
 * before the value. Read with `header_at`, since nothing in there is aligned. */
typedef struct {
    const char *name, *value; /* value NULL: null */
    int32_t name_size, value_size;
    int name_number; /* -1: one that is not kept */
} HeaderView;

size_t header_at(const Arena *arena, size_t at, HeaderView *view); /* gives the next one's place */

Arena *arena_take(const char *topic); /* from the pool, or new; NULL: no memory */
void arena_give(Arena *arena);        /* back to the pool, or freed */
bool arena_add(Arena *arena, const rd_kafka_message_t *message); /* false: no memory */
bool arena_add_header(Arena *arena, const char *name, size_t name_size, const void *value, size_t size);
/* All of the newest row; none, and null, where they cannot be read or do not end where they should. */
typedef enum { ADDED, ADDED_NONE, ADDED_NO_MEMORY } Added;
Added arena_add_wire(Arena *arena, Wire wire);
/* A row without Kafka: for tests, and for what was read another way. Headers follow. */
Row *arena_row(Arena *arena, const void *key, size_t key_size, const void *value, size_t value_size);

#endif
