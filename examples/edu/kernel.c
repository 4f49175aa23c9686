/*
 * What the linker sees of the kernel: the names that the drivers use, each with its type, for the
 * kernel's loader compares those (src/system/kernel/elf.cpp, elf_resolve_symbol). Nothing of this
 * is in the drivers. With Haiku at hand, link against its `_KERNEL_` (package haiku_devel) instead.
 */
#define FUNCTION(name) \
	void name(void) {}

FUNCTION(acquire_spinlock)
FUNCTION(delete_area)
FUNCTION(disable_interrupts)
FUNCTION(dprintf)
FUNCTION(get_module)
FUNCTION(map_physical_memory)
FUNCTION(panic)
FUNCTION(put_module)
FUNCTION(release_spinlock)
FUNCTION(restore_interrupts)
FUNCTION(user_memcpy)
FUNCTION(memset)
