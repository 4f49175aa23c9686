extern "C" void dprintf(const char* format, ...);
struct Thing { Thing() { dprintf("constructed\n"); } } thing;
extern "C" { int api_version = 1; int init_driver() { return 0; } const char** publish_devices() { return 0; } void* find_device(const char*) { return 0; } }
