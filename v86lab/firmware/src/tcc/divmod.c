/* What gcc's code in libc.a expects of the compiler's library and tcc's libtcc1 has not. Compiled by tcc into libtcc1.a. */
unsigned long long __udivmoddi4(unsigned long long n, unsigned long long d, unsigned long long *rest)
{
	unsigned long long q = n / d;
	if (rest)
		*rest = n - q * d;
	return q;
}

long long __divmoddi4(long long n, long long d, long long *rest)
{
	long long q = n / d;
	*rest = n - q * d;
	return q;
}
