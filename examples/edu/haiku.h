/*
 * What the two drivers use of Haiku's kernel: declarations of our own, with the layouts and values
 * of its public headers. Out of this repository a driver includes those: headers/os/drivers
 * (Drivers.h, PCI.h, device_manager.h, module.h, KernelExport.h) and headers/os/kernel/OS.h.
 */
#ifndef EDU_HAIKU_H
#define EDU_HAIKU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t status_t;
typedef int32_t area_id;
typedef int64_t off_t;

/* Errors.h: B_GENERAL_ERROR_BASE is INT32_MIN, and what is not among those is of POSIX. */
#define B_OK 0
#define B_ERROR (-1)
#define B_BAD_VALUE ((status_t)0x80000005)
#define B_DEV_INVALID_IOCTL ((status_t)0x8000a000)
#define B_ENTRY_NOT_FOUND ((status_t)0x80006003)

/* KernelExport.h */
void dprintf(const char* format, ...) __attribute__((format(printf, 1, 2)));
void panic(const char* format, ...) __attribute__((format(printf, 1, 2)));
status_t user_memcpy(void* to, const void* from, size_t size);

typedef uint64_t cpu_status;
cpu_status disable_interrupts(void);
void restore_interrupts(cpu_status status);
/* Larger than the kernel's own, which grows by what it is built to watch. */
typedef struct {
	int32_t words[16];
} spinlock;
void acquire_spinlock(spinlock* lock);
void release_spinlock(spinlock* lock);

/* OS.h */
#define B_ANY_KERNEL_ADDRESS 4
#define B_KERNEL_READ_AREA 0x10
#define B_KERNEL_WRITE_AREA 0x20
area_id map_physical_memory(const char* name, uint64_t address, size_t size, uint32_t flags,
	uint32_t protection, void** mapped);
status_t delete_area(area_id area);

/* module.h */
#define B_MODULE_INIT 1
#define B_MODULE_UNINIT 2
typedef struct module_info {
	const char* name;
	uint32_t flags;
	status_t (*std_ops)(int32_t operation, ...);
} module_info;
typedef struct {
	const char* name;
	module_info** info;
} module_dependency;
status_t get_module(const char* name, module_info** module);
status_t put_module(const char* name);

/* Drivers.h: what a legacy driver gives for a name that it publishes. */
#define B_CUR_DRIVER_API_VERSION 2
typedef struct {
	status_t (*open)(const char* name, uint32_t flags, void** cookie);
	status_t (*close)(void* cookie);
	status_t (*free)(void* cookie);
	status_t (*control)(void* cookie, uint32_t operation, void* data, size_t size);
	status_t (*read)(void* cookie, off_t position, void* data, size_t* size);
	status_t (*write)(void* cookie, off_t position, const void* data, size_t* size);
	void* unused[4];
} device_hooks;

/* PCI.h: the beginning of it, as far as it is used here. */
#define B_PCI_MODULE_NAME "bus_managers/pci/v1"
typedef struct {
	uint16_t vendor, device;
	uint8_t bus, slot, function;
	uint8_t rest[249];
} pci_info;
typedef struct {
	module_info module;
	status_t (*rescan)(void);
	void* ports[6];
	long (*get_nth_pci_info)(long index, pci_info* info);
	uint32_t (*read_pci_config)(uint8_t bus, uint8_t device, uint8_t function, uint16_t offset,
		uint8_t size);
	void (*write_pci_config)(uint8_t bus, uint8_t device, uint8_t function, uint16_t offset,
		uint8_t size, uint32_t value);
} pci_module_info;

/* device_manager.h */
#define B_DEVICE_MANAGER_MODULE_NAME "system/device_manager/v1"
#define B_STRING_TYPE 0x43535452
typedef struct device_node device_node;
typedef struct {
	const char* name;
	uint32_t type;
	union {
		const char* string;
		struct {
			const void* data;
			size_t size;
		} raw;
	} value;
} device_attr;
typedef struct {
	module_info module;
	status_t (*rescan_node)(device_node* node);
	status_t (*register_node)(device_node* parent, const char* module, const device_attr* attributes,
		const void* resources, device_node** node);
	void* unused[6];
	status_t (*publish_device)(device_node* node, const char* path, const char* module);
	void* unused_too[3];
	status_t (*get_attr_uint8)(const device_node* node, const char* name, uint8_t* value,
		bool recursive);
	status_t (*get_attr_uint16)(const device_node* node, const char* name, uint16_t* value,
		bool recursive);
} device_manager_info;
typedef struct {
	module_info module;
	float (*supports_device)(device_node* parent);
	status_t (*register_device)(device_node* parent);
	status_t (*init_driver)(device_node* node, void** cookie);
	void (*uninit_driver)(void* cookie);
	status_t (*register_child_devices)(void* cookie);
	void* unused[4];
} driver_module_info;
typedef struct {
	module_info module;
	status_t (*init_device)(void* driver, void** cookie);
	void (*uninit_device)(void* cookie);
	void (*device_removed)(void* cookie);
	status_t (*open)(void* device, const char* path, int mode, void** cookie);
	status_t (*close)(void* cookie);
	status_t (*free)(void* cookie);
	status_t (*read)(void* cookie, off_t position, void* data, size_t* size);
	status_t (*write)(void* cookie, off_t position, const void* data, size_t* size);
	void* unused[4];
} device_module_info;

#define ASSERT(condition) \
	do { \
		if (!(condition)) \
			panic("ASSERT FAILED (%s:%d): %s\n", __FILE__, __LINE__, #condition); \
	} while (0)

#ifdef __cplusplus
}
#endif

#endif
