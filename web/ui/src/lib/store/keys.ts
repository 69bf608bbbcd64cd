/** Keys that sort as people expect under plain string comparison, which is far cheaper than a collator. */

const DIGITS = 12;
// Most names are ASCII, and need no decomposing.
const ASCII = /^[\x20-\x7e]*$/;
const MARKS = /\p{M}/gu;

/** `rack 2` before `rack 10`, without regard to case and accents. */
export function naturalKey(text: string): string {
  const plain = ASCII.test(text) ? text : text.normalize('NFD').replace(MARKS, '');
  return plain.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(DIGITS, '0'));
}

/** IPv4 by number, then IPv6 by number, then host names. */
export function addressKey(address: string): string {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address);
  if (v4) {
    return `4${v4
      .slice(1)
      .map((part) => part.padStart(3, '0'))
      .join('')}`;
  }
  if (address.includes(':')) {
    return `6${ipv6Key(address)}`;
  }
  return `n${naturalKey(address)}`;
}

function ipv6Key(address: string): string {
  const [head = '', tail] = address.toLowerCase().split('%')[0]?.split('::') ?? [];
  const words = (part: string | undefined) => (part ? part.split(':') : []);
  const [front, back] = [words(head), words(tail)];
  const zeros = Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0');
  return [...front, ...zeros, ...back].map((word) => word.padStart(4, '0')).join('');
}
