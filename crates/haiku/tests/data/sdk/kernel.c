/* A kernel to link against: the names, as functions. */
#define FUNCTION(name) void name(void) {}
FUNCTION(get_module)
FUNCTION(put_module)
FUNCTION(map_physical_memory)
FUNCTION(delete_area)
FUNCTION(dprintf)
FUNCTION(user_memcpy)
FUNCTION(strcmp)
FUNCTION(strerror)
FUNCTION(calloc)
FUNCTION(free)
FUNCTION(memset)
FUNCTION(memcpy)
