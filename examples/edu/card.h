/*
 * QEMU's educational card (docs/specs/edu.rst of QEMU), and what both drivers do with it: a read
 * gives the card's identification and the factorial of 10 that it calculates; a write is a command.
 * "null", "assert" and "deadlock" panic, "hang" and "reset" do worse: it can be seen how that is told.
 */
#ifndef EDU_CARD_H
#define EDU_CARD_H

#include "haiku.h"

#define EDU_VENDOR 0x1234
#define EDU_DEVICE 0x11e8
#define EDU_SIZE 0x100000

struct edu_registers {
	uint32_t identification;
	uint32_t liveness;
	uint32_t factorial;
	uint32_t unused[5];
	uint32_t status;
};

struct edu_card {
	volatile struct edu_registers* registers;
	area_id area;
	spinlock lock;
};

static inline pci_module_info*
edu_pci(void)
{
	module_info* module;
	if (get_module(B_PCI_MODULE_NAME, &module) != B_OK)
		return NULL;
	return (pci_module_info*)module;
}

/* Finds the card, and maps its registers, which base register 0 says the address of. */
static inline status_t
edu_find(const char* name, struct edu_card* card)
{
	pci_module_info* pci = edu_pci();
	if (pci == NULL)
		return B_ERROR;
	status_t status = B_ENTRY_NOT_FOUND;
	pci_info info;
	for (long index = 0; pci->get_nth_pci_info(index, &info) == B_OK; index++) {
		if (info.vendor != EDU_VENDOR || info.device != EDU_DEVICE)
			continue;
		uint64_t address
			= pci->read_pci_config(info.bus, info.slot, info.function, 0x10, 4) & ~0xfu;
		dprintf("%s: the card at %02x:%02x.%x, registers at 0x%lx\n", name, info.bus, info.slot,
			info.function, (unsigned long)address);
		void* mapped = NULL;
		card->area = map_physical_memory("edu registers", address, EDU_SIZE, B_ANY_KERNEL_ADDRESS,
			B_KERNEL_READ_AREA | B_KERNEL_WRITE_AREA, &mapped);
		card->registers = (volatile struct edu_registers*)mapped;
		status = card->area < 0 ? card->area : B_OK;
		break;
	}
	put_module(B_PCI_MODULE_NAME);
	return status;
}

static inline uint32_t
edu_factorial(const struct edu_card* card, uint32_t number)
{
	card->registers->factorial = number;
	for (int tries = 0; tries < 1000000 && (card->registers->status & 1) != 0; tries++)
		;
	return card->registers->factorial;
}

/* Number of characters that a number has in the text. */
static inline size_t
edu_hex(char* text, uint32_t number)
{
	for (int digit = 0; digit < 8; digit++)
		text[digit] = "0123456789abcdef"[number >> (28 - 4 * digit) & 0xf];
	return 8;
}

static inline status_t
edu_read(const struct edu_card* card, off_t position, void* data, size_t* size)
{
	char text[18];
	size_t length = edu_hex(text, card->registers->identification);
	text[length++] = ' ';
	length += edu_hex(text + length, edu_factorial(card, 10));
	text[length++] = '\n';
	if (position < 0)
		return B_BAD_VALUE;
	size_t left = (size_t)position < length ? length - (size_t)position : 0;
	if (*size > left)
		*size = left;
	return user_memcpy(data, text + (length - left), *size);
}

static inline bool
edu_is(const char* command, size_t size, const char* word)
{
	for (size_t at = 0; word[at] != '\0'; at++) {
		if (at >= size || command[at] != word[at])
			return false;
	}
	return true;
}

/* Writes to a member of a structure that is not there. */
static inline void
edu_touch(volatile struct edu_registers* registers)
{
	registers->unused[1] = 42;
}

static inline void
edu_panic_null(void)
{
	volatile struct edu_registers* volatile nothing = NULL;
	edu_touch(nothing);
}

static inline void
edu_panic_assert(const struct edu_card* card)
{
	ASSERT(card->registers->identification == 0);
}

static inline void
edu_panic_deadlock(struct edu_card* card)
{
	cpu_status status = disable_interrupts();
	acquire_spinlock(&card->lock);
	acquire_spinlock(&card->lock);
	release_spinlock(&card->lock);
	restore_interrupts(status);
}

/* Does not come back, and lets nothing interrupt it. */
static inline void
edu_hang(void)
{
	disable_interrupts();
	for (;;)
		__asm__ volatile("pause");
}

/* A triple fault: an exception, and no table of what handles it. */
static inline void
edu_reset(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) nothing = {0, 0};
	__asm__ volatile("lidt %0\n\tint3" : : "m"(nothing));
}

static inline status_t
edu_write(struct edu_card* card, const void* data, size_t* size)
{
	char command[16];
	size_t length = *size < sizeof(command) ? *size : sizeof(command);
	if (user_memcpy(command, data, length) != B_OK)
		return B_BAD_VALUE;
	if (edu_is(command, length, "null"))
		edu_panic_null();
	else if (edu_is(command, length, "assert"))
		edu_panic_assert(card);
	else if (edu_is(command, length, "deadlock"))
		edu_panic_deadlock(card);
	else if (edu_is(command, length, "hang"))
		edu_hang();
	else if (edu_is(command, length, "reset"))
		edu_reset();
	else
		return B_BAD_VALUE;
	return B_OK;
}

#endif
